package middleware

import (
	"net/http"

	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// InFlight counts the requests of a method that are being served. It requires [Count], which counts
// them again when they have ended.
func InFlight(method *telemetry.Method) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			method.Begin()
			next.ServeHTTP(w, r)
		})
	}
}

// Count returns an observer ([Observe]) that counts each request in the metrics.
func Count(metrics *telemetry.Metrics) func(*Observation) {
	return func(o *Observation) {
		method := metrics.Method(o.Method)
		if o.Method == nil {
			method.Begin() // InFlight is for RPC methods only
		}
		outcome := telemetry.Outcome{
			Status: o.Status, Code: o.Code, Reason: o.Reason, Duration: o.Duration,
			RequestBytes: o.Request.ContentLength, ResponseBytes: o.Bytes,
		}
		if o.span != nil {
			outcome.TraceID = o.TraceID
		}
		method.End(outcome)
	}
}
