package middleware

import (
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// BodyLimit keeps request bodies to limit bytes. A longer declared
// Content-Length is refused with 413 before anything is read. A body of no
// declared length fails while it is read, with [http.MaxBytesError]; whoever
// reads it answers.
func BodyLimit(limit int64) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > limit {
				apierror.Write(w, r, apierror.New(codes.ResourceExhausted, apierror.BodyTooLarge,
					fmt.Sprintf("The body has %d bytes; at most %d are taken.", r.ContentLength, limit)).
					WithHTTPStatus(http.StatusRequestEntityTooLarge))
				return
			}
			if r.Body != nil {
				r.Body = http.MaxBytesReader(w, r.Body, limit)
			}
			next.ServeHTTP(w, r)
		})
	}
}
