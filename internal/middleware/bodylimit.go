package middleware

import (
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// BodyLimit limits request bodies to limit bytes. A request with a larger Content-Length is
// rejected with 413 before its body is read. Reading a larger body without a Content-Length fails
// with an [http.MaxBytesError], to which the reader must respond.
func BodyLimit(limit int64) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > limit {
				apierror.Write(w, apierror.New(codes.ResourceExhausted, apierror.BodyTooLarge,
					fmt.Sprintf("The body has %d bytes, but the gateway accepts at most %d. Nothing was sent to the Mesh API.", r.ContentLength, limit)).
					WithHTTPStatus(http.StatusRequestEntityTooLarge))
				return
			}
			if r.ContentLength != 0 && r.Body != nil {
				r.Body = http.MaxBytesReader(w, r.Body, limit)
			}
			next.ServeHTTP(w, r)
		})
	}
}
