package middleware

import (
	"net/http"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/deadline"
)

// WriteTimeout closes the connection of a client that does not read its response: one that takes
// less than 64 KiB of it within the timeout while more is to be written. It must come before all
// middleware that writes responses. It does not apply to hijacked connections.
func WriteTimeout(timeout time.Duration) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			dw := deadline.NewWriter(w, r, timeout)
			next.ServeHTTP(dw, r)
			dw.Finish()
		})
	}
}
