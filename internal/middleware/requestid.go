// Package middleware holds what stands between the listener and the gateway, one
// small file each. Every middleware has the shape func(http.Handler) http.Handler
// and answers what it refuses with package apierror.
//
// The order, from the outside in: [RequestID], [ClientIP], [AccessLog], [Recover],
// [CORS], [Local] (local mode only), [BodyLimit], and for the routes of each method
// [LogMethod], [Tickets.Redeem], [Admit], [Compressor.Reads].
package middleware

import (
	"net/http"

	"github.com/oklog/ulid/v2"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// maxRequestIDLength is the longest X-Request-Id taken from a client, in
// characters.
const maxRequestIDLength = 128

// RequestID gives each request an id: the client's own X-Request-Id where it
// is 1 to 128 of A-Z, a-z, 0-9, ".", "_" and "-", else a new ULID. It stands in
// the header of the response and, once, in the header of the request, from
// where whatever comes later reads it.
func RequestID() func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var id string
			// Of several ids none is the request's.
			if values := r.Header.Values(wire.RequestIDHeader); len(values) == 1 && validRequestID(values[0]) {
				id = values[0]
			} else {
				id = ulid.Make().String()
			}
			r.Header.Set(wire.RequestIDHeader, id)
			w.Header().Set(wire.RequestIDHeader, id)
			next.ServeHTTP(w, r)
		})
	}
}

// validRequestID keeps ids out that would forge a line of somebody's log.
func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestIDLength {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
