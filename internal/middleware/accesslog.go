package middleware

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"google.golang.org/genproto/googleapis/rpc/code"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

const (
	// Limits, in bytes, of values in the log that come from clients or the upstream.
	maxLoggedUserAgent = 200
	maxLoggedPath      = 1024
	maxLoggedCause     = 500
)

// AccessLog logs each request after its response. The record contains no header except User-Agent
// (its first 200 bytes), and neither the body nor the query, because they may contain keys and
// personal data. The client address is that of [ClientIP], which must come before AccessLog.
//
// The record of a request that failed also has:
//
//	code     the gRPC code of the response, such as UNAVAILABLE
//	reason   the reason of the gateway's ErrorInfo, for errors of the gateway itself
//	cause    the cause, which is not sent to the client, such as a dial error; its first 500 bytes
//
// They come from [apierror.Write], and from [apierror.Observe] for an error that ends a stream. The
// level is INFO for statuses below 500, ERROR for 500, which indicates a defect, and WARN above.
func AccessLog(logger *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin := time.Now()
			ww := chimiddleware.NewWrapResponseWriter(w, r.ProtoMajor)
			// Handlers may rewrite the path of the request.
			path := r.URL.Path
			record := new(accessRecord)
			ctx := context.WithValue(r.Context(), accessRecordKey{}, record)
			r = r.WithContext(apierror.WithObserver(ctx, record.fail))
			returned := false
			// Deferred, so that requests that panic with http.ErrAbortHandler are logged.
			defer func() {
				status := ww.Status()
				if status == 0 {
					switch {
					case errors.Is(r.Context().Err(), context.Canceled):
						status = apierror.StatusClientClosedRequest
					case returned:
						// net/http sends 200 if a handler writes nothing.
						status = http.StatusOK
					default:
						status = http.StatusInternalServerError
					}
				}
				attrs := make([]slog.Attr, 0, 14)
				attrs = append(attrs,
					slog.String("method", r.Method),
					slog.String("path", truncate(path, maxLoggedPath)),
					slog.Int("status", status),
					slog.Int("bytes", ww.BytesWritten()),
					slog.Float64("duration_ms", float64(time.Since(begin).Microseconds())/1000),
					slog.String("request_id", w.Header().Get(wire.RequestIDHeader)),
					slog.String("protocol", r.Proto),
					slog.String("user_agent", truncate(r.UserAgent(), maxLoggedUserAgent)),
				)
				if ip := ClientIPOf(r.Context()); ip.IsValid() {
					attrs = append(attrs, slog.String("client_ip", ip.String()))
				}
				attrs = record.appendTo(attrs, r)
				logger.LogAttrs(r.Context(), levelOf(status), "request", attrs...)
			}()
			next.ServeHTTP(ww, r)
			returned = true
		})
	}
}

// LogMethod adds the RPC method and the route (http.Request.Pattern) of a request to its record in
// [AccessLog]. It is the outermost middleware of a method, so that rejected requests are logged
// with their method too.
func LogMethod(method *contract.Method) func(http.Handler) http.Handler {
	rpc := method.Name()
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if record, ok := r.Context().Value(accessRecordKey{}).(*accessRecord); ok {
				record.setMethod(rpc, r.Pattern)
			}
			next.ServeHTTP(w, r)
		})
	}
}

type accessRecordKey struct{}

// accessRecord collects attributes of a request while it is served. It has a lock because streams
// may fail in other goroutines than the handler's.
type accessRecord struct {
	mu         sync.Mutex
	rpc, route string
	err        error
}

// setMethod sets the RPC method, and the route to the path of a pattern such as "GET /v1/…". A
// pattern without an HTTP method is that of an outer router, for which appendTo finds a more
// specific one.
func (a *accessRecord) setMethod(rpc, pattern string) {
	_, route, _ := strings.Cut(pattern, " ")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rpc, a.route = rpc, route
}

// fail sets the error of the request. The last error wins, since a buffered response may be
// replaced by another.
func (a *accessRecord) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *accessRecord) appendTo(attrs []slog.Attr, r *http.Request) []slog.Attr {
	a.mu.Lock()
	rpc, route, err := a.rpc, a.route, a.err
	a.mu.Unlock()

	if rpc != "" {
		attrs = append(attrs, slog.String("rpc", rpc))
	}
	if matched := chi.RouteContext(r.Context()); route == "" && matched != nil && len(matched.RoutePatterns) > 0 {
		// The innermost pattern, since nested routers match the whole path.
		route = matched.RoutePatterns[len(matched.RoutePatterns)-1]
	}
	if route != "" {
		attrs = append(attrs, slog.String("route", route))
	}
	if err == nil {
		return attrs
	}
	attrs = append(attrs, slog.String("code", code.Code(apierror.CodeOf(err)).String()))
	if reason := apierror.ReasonOf(err); reason != "" {
		attrs = append(attrs, slog.String("reason", reason))
	}
	if cause := apierror.CauseOf(err); cause != nil {
		attrs = append(attrs, slog.String("cause", truncate(maskCredentials(cause.Error(), r.Header), maxLoggedCause)))
	}
	return attrs
}

func levelOf(status int) slog.Level {
	switch {
	case status < http.StatusInternalServerError:
		return slog.LevelInfo
	case status == http.StatusInternalServerError:
		return slog.LevelError
	default:
		return slog.LevelWarn
	}
}

// maskCredentials redacts the API keys of the request header in text.
func maskCredentials(text string, header http.Header) string {
	keys := slices.Clone(header.Values(wire.APIKeyHeader))
	for _, value := range header.Values(wire.AuthorizationHeader) {
		_, key, _ := strings.Cut(value, " ") // after the scheme
		keys = append(keys, strings.TrimSpace(key))
	}
	var pairs []string
	for _, key := range keys {
		if key != "" {
			pairs = append(pairs, key, "[redacted]")
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// truncate shortens text to at most limit bytes, between characters.
func truncate(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}
