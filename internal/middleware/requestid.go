// Package middleware provides the HTTP middleware between the listeners and the gateway. Each
// middleware is a func(http.Handler) http.Handler and writes its errors with package apierror.
//
// The order, from the outermost to the innermost: [RequestID], [ClientIP], [AccessLog], [Recover],
// [CORS], [Local] (local mode only), [BodyLimit], and for the routes of each method [LogMethod],
// [Tickets.Redeem], [Admit], [Compressor.Reads].
package middleware

import (
	"net/http"

	"github.com/oklog/ulid/v2"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// maxRequestIDLength is the maximum length of a client's X-Request-Id, in characters.
const maxRequestIDLength = 128

// RequestID sets X-Request-Id in the header of each request and its response. It keeps the id of
// the client if that is 1 to 128 characters of A-Z, a-z, 0-9, ".", "_" and "-", and otherwise
// generates a ULID.
func RequestID() func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var id string
			// Several ids are ambiguous, so none of them is kept.
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

// validRequestID reports whether id has no characters that could forge lines in a log.
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
