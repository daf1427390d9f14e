package middleware

import (
	"net/http"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
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
		code := codes.OK
		if o.Err != nil {
			code = apierror.CodeOf(o.Err)
		}
		method.End(telemetry.Outcome{
			Status: o.Status, Code: code, Duration: o.Duration,
			RequestBytes: o.Request.ContentLength, ResponseBytes: o.Bytes,
		})
	}
}
