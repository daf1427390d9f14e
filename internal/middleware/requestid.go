// Package middleware provides the HTTP middleware between the listeners and the gateway. Each
// middleware is a func(http.Handler) http.Handler and writes its errors with package apierror.
//
// The order, from the outermost to the innermost: [RequestID], [ClientIP], [Observe] with
// [AccessLog], [Trace], [Recover], [CORS], [Local] (local mode only), [BodyLimit], and for the routes of each
// method [Method], [Tickets.Redeem], [Admit], [Compressor.Reads].
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
			// Several ids are ambiguous, so none of them is kept.
			id := r.Header[wire.RequestIDHeader]
			if len(id) != 1 || !validRequestID(id[0]) {
				id = []string{ulid.Make().String()}
				r.Header[wire.RequestIDHeader] = id
			}
			w.Header()[wire.RequestIDHeader] = id
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
