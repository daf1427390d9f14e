package middleware

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	// maxLoggedUserAgent and maxLoggedPath are in bytes: what a client writes
	// into the log has a limit.
	maxLoggedUserAgent = 200
	maxLoggedPath      = 1024

	// statusClientClosedRequest is nginx's status for a client that left before
	// anything was answered; it is seen in logs only.
	statusClientClosedRequest = 499
)

// AccessLog writes one record for each request, when it has been answered. It
// holds no header but the User-Agent (its first 200 bytes), and neither body
// nor query, where keys and personal data would stand.
//
// The address is that of [ClientIP], which comes before it.
func AccessLog(logger *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin := time.Now()
			ww := chimiddleware.NewWrapResponseWriter(w, r.ProtoMajor)
			// Handlers may rewrite the path of the request they are given.
			path := r.URL.Path
			returned := false
			// Deferred, for requests that end in http.ErrAbortHandler.
			defer func() {
				status := ww.Status()
				if status == 0 {
					switch {
					case errors.Is(r.Context().Err(), context.Canceled):
						status = statusClientClosedRequest
					case returned:
						// net/http sends it for a handler that wrote nothing.
						status = http.StatusOK
					default:
						status = http.StatusInternalServerError
					}
				}
				attrs := []slog.Attr{
					slog.String("method", r.Method),
					slog.String("path", truncate(path, maxLoggedPath)),
					slog.Int("status", status),
					slog.Int("bytes", ww.BytesWritten()),
					slog.Float64("duration_ms", float64(time.Since(begin).Microseconds())/1000),
					slog.String("request_id", w.Header().Get(apierror.RequestIDHeader)),
					slog.String("protocol", r.Proto),
					slog.String("user_agent", truncate(r.UserAgent(), maxLoggedUserAgent)),
				}
				if ip := ClientIPOf(r.Context()); ip.IsValid() {
					attrs = append(attrs, slog.String("client_ip", ip.String()))
				}
				if route := chi.RouteContext(r.Context()); route != nil && len(route.RoutePatterns) > 0 {
					// The innermost: the API's own router is entered with the whole path.
					attrs = append(attrs, slog.String("route", route.RoutePatterns[len(route.RoutePatterns)-1]))
				}
				logger.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
			}()
			next.ServeHTTP(ww, r)
			returned = true
		})
	}
}

// truncate cuts the text to at most limit bytes, between characters.
func truncate(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}
