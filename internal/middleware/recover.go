package middleware

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Recover answers a panic with 500 and logs it with its stack. Where the answer
// has begun it cannot be taken back, so the connection is aborted instead: the
// client would take the part for the whole. [AccessLog] gets the panic as the cause.
//
// [http.ErrAbortHandler] is a panic on purpose and goes on.
func Recover(logger *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ww := chimiddleware.NewWrapResponseWriter(w, r.ProtoMajor)
			defer func() {
				value := recover()
				if value == nil {
					return
				}
				if value == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
					panic(value)
				}
				text := maskCredentials(fmt.Sprint(value), r.Header)
				logger.LogAttrs(r.Context(), slog.LevelError, "panic while answering a request",
					slog.String("panic", text),
					slog.String("stack", string(debug.Stack())),
					slog.String("request_id", r.Header.Get(wire.RequestIDHeader)),
					slog.String("method", r.Method),
					slog.String("path", truncate(r.URL.Path, maxLoggedPath)),
				)
				refusal := defect(r.Method).WithCause(errors.New("panic: " + text))
				if ww.Status() != 0 {
					apierror.Observe(r.Context(), refusal)
					panic(http.ErrAbortHandler)
				}
				// These described the answer that is not sent.
				for _, name := range []string{"Content-Encoding", wire.ContentDispositionHeader, "Etag", "Last-Modified"} {
					ww.Header().Del(name)
				}
				apierror.Write(ww, r, refusal)
			}()
			next.ServeHTTP(ww, r)
		})
	}
}

// defect says for anything but a read that the panic may have come after the
// request was carried out.
func defect(method string) *apierror.Error {
	message := "The gateway failed to answer this request. Report it with the request id."
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		message += " It may or may not have been carried out: look for its effect (get or list) before you repeat it."
	}
	return apierror.New(codes.Internal, apierror.Internal, message)
}
