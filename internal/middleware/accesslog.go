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
	// Limits in bytes on what clients and upstreams can write into the log.
	maxLoggedUserAgent = 200
	maxLoggedPath      = 1024
	maxLoggedCause     = 500
)

// AccessLog writes one record for each request, when it has been answered. The
// record has no header but the User-Agent (its first 200 bytes), and neither body
// nor query, where keys and personal data would be. The address is that of
// [ClientIP], which comes before it.
//
// The record of a request that failed also has:
//
//	code     the gRPC code of the answer, such as UNAVAILABLE
//	reason   the reason of the gateway's ErrorInfo, where the gateway refused
//	cause    what clients are not told, such as a dial error; its first 500 bytes
//
// They come from [apierror.Write], and from [apierror.Observe] for an error that
// ends a stream. The level is INFO below 500, ERROR for 500, which is a defect
// somewhere, and WARN above it.
func AccessLog(logger *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin := time.Now()
			ww := chimiddleware.NewWrapResponseWriter(w, r.ProtoMajor)
			// Handlers may rewrite the path of the request they are given.
			path := r.URL.Path
			record := new(accessRecord)
			ctx := context.WithValue(r.Context(), accessRecordKey{}, record)
			r = r.WithContext(apierror.WithObserver(ctx, record.fail))
			returned := false
			// Deferred, for requests that end in http.ErrAbortHandler.
			defer func() {
				status := ww.Status()
				if status == 0 {
					switch {
					case errors.Is(r.Context().Err(), context.Canceled):
						status = apierror.StatusClientClosedRequest
					case returned:
						// net/http sends it for a handler that wrote nothing.
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

// LogMethod gives [AccessLog] the method that a request calls, and its route as
// the pattern of the request (http.Request.Pattern) names it. It is the outermost
// middleware of a method, so that refusals are logged with their method too.
func LogMethod(method *contract.Method) func(http.Handler) http.Handler {
	rpc := method.Name()
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if record, ok := r.Context().Value(accessRecordKey{}).(*accessRecord); ok {
				record.call(rpc, r.Pattern)
			}
			next.ServeHTTP(w, r)
		})
	}
}

type accessRecordKey struct{}

// accessRecord is what is learnt about a request while it is answered. Streams fail
// from other goroutines than their handler's, hence the lock.
type accessRecord struct {
	mu         sync.Mutex
	rpc, route string
	err        error
}

// call notes the method. A pattern is "GET /v1/…"; its verb is left out, since the
// record has the method of the request. One without a verb is that of a router in
// front, which appendTo reads better.
func (a *accessRecord) call(rpc, pattern string) {
	_, route, _ := strings.Cut(pattern, " ")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rpc, a.route = rpc, route
}

// fail notes the error that the request fails with. The last one stands, since an
// answer that was still buffered may be replaced by another.
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
		// The innermost pattern: routers below are entered with the whole path.
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

// maskCredentials replaces the keys of a request's header in a text for the log.
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

// truncate cuts the text to at most limit bytes, between characters.
func truncate(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}
