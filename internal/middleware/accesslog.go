package middleware

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

const (
	// Limits, in bytes, of values in the log that come from clients or the upstream.
	maxLoggedUserAgent = 200
	maxLoggedPath      = 1024
	maxLoggedCause     = 500
)

// AccessLog returns an observer ([Observe]) that logs each request. The record contains no header
// except User-Agent (its first 200 bytes), and neither the body nor the query, because they may
// contain keys and personal data. docs/operations.md lists the fields.
//
// The record of a request that failed also has:
//
//	code     the gRPC code of the response, such as UNAVAILABLE
//	reason   the reason of the gateway's ErrorInfo, for errors of the gateway itself
//	cause    the cause, which is not sent to the client, such as a dial error; its first 500 bytes
//
// They come from [apierror.Write], and from [apierror.Observe] for an error that ends a stream. The
// level is INFO for statuses below 500, ERROR for 500, which indicates a defect, and WARN above.
//
// Of the requests that succeed, successes is the part that is logged, from 0 to 1. A request with an
// error or a status of 400 or more is always logged.
func AccessLog(logger *slog.Logger, successes float64) func(*Observation) {
	// The handlers of the routes of the contract have written route and rpc beforehand.
	plain, routes := logger.Handler(), make(map[*contract.Binding]slog.Handler)
	for _, method := range contract.Methods() {
		for _, binding := range method.Bindings {
			routes[binding] = plain.WithAttrs([]slog.Attr{slog.String("rpc", method.Name()), slog.String("route", binding.Template)})
		}
	}
	buffers := sync.Pool{New: func() any { return new(make([]slog.Attr, 0, 20)) }}
	return func(o *Observation) {
		if successes < 1 && o.Err == nil && o.Status < http.StatusBadRequest && rand.Float64() >= successes { //nolint:gosec // it need not be unpredictable
			return
		}
		level, ctx := levelOf(o.Status), o.Request.Context()
		if !plain.Enabled(ctx, level) {
			return
		}
		buffer := buffers.Get().(*[]slog.Attr)
		defer buffers.Put(buffer)
		attrs := append((*buffer)[:0],
			slog.String("method", o.Request.Method),
			slog.String("path", truncate(o.Path, maxLoggedPath)),
			slog.Int("status", o.Status),
			slog.Int64("bytes", o.Bytes),
			slog.Float64("duration_ms", milliseconds(o.Duration)),
			slog.String("request_id", o.Header.Get(wire.RequestIDHeader)),
			slog.String("protocol", o.Request.Proto),
			slog.String("user_agent", truncate(o.Request.UserAgent(), maxLoggedUserAgent)),
		)
		if client := clientOf(o); client.IsValid() {
			attrs = append(attrs, slog.Any("client_ip", client))
		}
		if o.TraceID != "" {
			attrs = append(attrs, slog.String("trace_id", o.TraceID))
		}
		handler, known := routes[o.Binding]
		if !known {
			handler = plain
			if o.Method != nil {
				attrs = append(attrs, slog.String("rpc", o.Method.Name()))
			}
			if o.Route != "" {
				attrs = append(attrs, slog.String("route", o.Route))
			}
		}
		if o.Call != nil {
			attrs = appendCall(attrs, o)
		}
		if o.Err != nil {
			attrs = appendError(attrs, o)
		}
		_ = telemetry.HandleAttrs(ctx, handler, o.Begin.Add(o.Duration), level, "request", attrs) // what fails is counted where it is written (telemetry.LogWriter)
		clear(attrs)
		*buffer = attrs
	}
}

// clientOf returns the address of the client, which [Admit] has determined if the request reached it.
func clientOf(o *Observation) *netip.Addr {
	if o.Call != nil {
		return &o.Call.Client
	}
	return new(ClientIPOf(o.Request))
}

// appendCall appends what was learned of a call of the API.
func appendCall(attrs []slog.Attr, o *Observation) []slog.Attr {
	if o.Call.Caller != (telemetry.Caller{}) {
		attrs = append(attrs, slog.Any("caller", &o.Call.Caller), slog.String("group", o.Request.Header.Get(wire.GroupHeader)))
	}
	if took, called := o.Call.Upstream(); called {
		attrs = append(attrs, slog.Float64("upstream_ms", milliseconds(took)))
	}
	return append(attrs, slog.Bool("sent", o.Call.Sent()))
}

func appendError(attrs []slog.Attr, o *Observation) []slog.Attr {
	attrs = append(attrs, slog.String("code", o.CodeName()))
	if o.Reason != "" {
		attrs = append(attrs, slog.String("reason", string(o.Reason)))
	}
	if cause := apierror.CauseOf(o.Err); cause != nil {
		attrs = append(attrs, slog.String("cause", truncate(maskCredentials(cause.Error(), o.Request.Header), maxLoggedCause)))
	}
	return attrs
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

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
