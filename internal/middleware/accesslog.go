package middleware

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
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
// contain keys and personal data.
//
// The record of a request that failed also has:
//
//	code     the gRPC code of the response, such as UNAVAILABLE
//	reason   the reason of the gateway's ErrorInfo, for errors of the gateway itself
//	cause    the cause, which is not sent to the client, such as a dial error; its first 500 bytes
//
// They come from [apierror.Write], and from [apierror.Observe] for an error that ends a stream. The
// level is INFO for statuses below 500, ERROR for 500, which indicates a defect, and WARN above.
func AccessLog(logger *slog.Logger) func(*Observation) {
	return func(o *Observation) {
		attrs := make([]slog.Attr, 0, 14)
		attrs = append(attrs,
			slog.String("method", o.Request.Method),
			slog.String("path", truncate(o.Path, maxLoggedPath)),
			slog.Int("status", o.Status),
			slog.Int64("bytes", o.Bytes),
			slog.Float64("duration_ms", float64(o.Duration.Microseconds())/1000),
			slog.String("request_id", o.Header.Get(wire.RequestIDHeader)),
			slog.String("protocol", o.Request.Proto),
			slog.String("user_agent", truncate(o.Request.UserAgent(), maxLoggedUserAgent)),
		)
		if ip := ClientIPOf(o.Request); ip.IsValid() {
			attrs = append(attrs, slog.String("client_ip", ip.String()))
		}
		if o.Method != nil {
			attrs = append(attrs, slog.String("rpc", o.Method.Name()))
		}
		if o.Route != "" {
			attrs = append(attrs, slog.String("route", o.Route))
		}
		if o.Err != nil {
			attrs = appendError(attrs, o.Err, o.Request.Header)
		}
		logger.LogAttrs(o.Request.Context(), levelOf(o.Status), "request", attrs...)
	}
}

func appendError(attrs []slog.Attr, err error, header http.Header) []slog.Attr {
	attrs = append(attrs, slog.String("code", code.Code(apierror.CodeOf(err)).String()))
	if reason := apierror.ReasonOf(err); reason != "" {
		attrs = append(attrs, slog.String("reason", reason))
	}
	if cause := apierror.CauseOf(err); cause != nil {
		attrs = append(attrs, slog.String("cause", truncate(maskCredentials(cause.Error(), header), maxLoggedCause)))
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
