package middleware

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Recover responds to a panic with 500 and logs it with its stack. If the response has begun, it
// aborts the connection instead, so that the client does not mistake a partial response for a
// complete one. [AccessLog] logs the panic as the cause. It requires [Observe].
//
// Recover does not stop a panic with [http.ErrAbortHandler], which is deliberate.
func Recover(logger *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				value := recover()
				if value == nil {
					return
				}
				if value == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
					panic(value)
				}
				text := maskCredentials(fmt.Sprint(value), r.Header)
				logger.LogAttrs(r.Context(), slog.LevelError, "panic while serving a request",
					slog.String("panic", text),
					slog.String("stack", string(debug.Stack())),
					slog.String("request_id", r.Header.Get(wire.RequestIDHeader)),
					slog.String("method", r.Method),
					slog.String("path", truncate(r.URL.Path, maxLoggedPath)),
				)
				failure := defect(r.Method).WithCause(errors.New("panic: " + text))
				if observed := responseOf(w); observed == nil || observed.begun() {
					apierror.Observe(w, failure)
					panic(http.ErrAbortHandler)
				}
				// They describe the response that is not sent.
				for _, name := range []string{"Content-Encoding", wire.ContentDispositionHeader, "Etag", "Last-Modified"} {
					w.Header().Del(name)
				}
				apierror.Write(w, failure)
			}()
			next.ServeHTTP(w, r)
		})
	}
}

// defect returns the error for a panic. The request may have been sent before the panic, so the
// outcome of a write is unknown.
func defect(method string) *apierror.Error {
	const message = "The gateway failed to process this request. Report this problem with the request id."
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return apierror.NewSent(codes.Internal, apierror.Internal, message)
	default:
		return apierror.Unknown(codes.Internal, message, "", "")
	}
}
