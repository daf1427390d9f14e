package middleware

import (
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/audit"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Audit returns an observer ([Observe]) that records the WRITEs of callers with credentials that did
// not reach [audit.Conn]: those that the gateway refused, and those whose client left before.
func Audit(recorder *audit.Recorder) func(*Observation) {
	return func(o *Observation) {
		if o.Method == nil || !o.Method.Write || o.Call == nil || o.Call.Caller == (telemetry.Caller{}) || o.Call.Audited() {
			return
		}
		err := o.Err
		if err == nil && o.Status == apierror.StatusClientClosedRequest {
			err = apierror.New(codes.Canceled, apierror.ClientClosedRequest, "The client closed the request. Nothing was sent to the Mesh API.")
		}
		header := o.Request.Header
		recorder.Rejected(audit.Line{
			Caller: o.Call.Caller.String(), Group: header.Get(wire.GroupHeader), Client: telemetry.AddressText(o.Call.Client),
			RPC: o.Method.Name(), Resource: o.Method.ResourceIn(o.Path), RequestID: o.Header.Get(wire.RequestIDHeader), TraceID: o.TraceID,
		}, header.Get(wire.IdempotencyKeyHeader), o.Call.Sent(), err)
	}
}
