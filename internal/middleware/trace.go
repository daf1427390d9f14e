package middleware

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Trace begins a server span for each request, as a child of the client's if the request has a
// Traceparent. It comes before [Observe], whose observer [EndSpan] ends the span.
//
// For the upstream, the span takes the place of the client's: Traceparent and Tracestate are removed
// from the request, and [telemetry.Conn] sends those of its own span. If the request is not sampled,
// it has no further span, and Traceparent is that of this one.
//
// otelhttp would wrap the response writer a second time, measure what [Count] does, and name the span
// before the route is known.
func Trace(tracer trace.Tracer) func(http.Handler) http.Handler {
	var propagator propagation.TraceContext
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			// Several are ambiguous, so none of them is the parent.
			if len(r.Header[wire.TraceparentHeader]) == 1 {
				ctx = propagator.Extract(ctx, propagation.HeaderCarrier(r.Header))
			}
			ctx, span := tracer.Start(ctx, r.Method, options...) //nolint:spancheck // EndSpan ends it
			if of := span.SpanContext(); of.IsSampled() {
				delete(r.Header, wire.TraceparentHeader)
				delete(r.Header, wire.TracestateHeader)
			} else {
				r.Header[wire.TraceparentHeader] = []string{telemetry.Traceparent(of)}
				if of.TraceState().Len() == 0 {
					delete(r.Header, wire.TracestateHeader)
				}
			}
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

// EndSpan is an observer ([Observe]) that names the span of a request by its route and ends it. The
// attributes have no value that a client chose, except the request id: paths and queries contain the
// names of resources.
func EndSpan(o *Observation) {
	span := trace.SpanFromContext(o.Request.Context())
	defer span.End()
	if !span.IsRecording() {
		return
	}
	attributes := make([]attribute.KeyValue, 0, 6)
	attributes = append(attributes,
		attribute.String("http.request.method", o.Request.Method),
		attribute.Int("http.response.status_code", o.Status),
		attribute.String("mesh_gateway.request_id", o.Header.Get(wire.RequestIDHeader)),
	)
	if o.Route != "" {
		span.SetName(o.Request.Method + " " + o.Route)
		attributes = append(attributes, attribute.String("http.route", o.Route))
	}
	if o.Err != nil {
		attributes = append(attributes, attribute.String("mesh_gateway.code", o.CodeName()))
		if o.Reason != "" {
			attributes = append(attributes, attribute.String("error.type", string(o.Reason)))
		}
	}
	span.SetAttributes(attributes...)
	if o.Status >= http.StatusInternalServerError {
		span.SetStatus(otelcodes.Error, "")
	}
}

// traceOf returns the id of the trace that a request belongs to, and whether the gateway sampled it.
// Without a sampled span, the id is that in the request.
func traceOf(r *http.Request) (id string, sampled bool) {
	if span := trace.SpanContextFromContext(r.Context()); span.IsSampled() {
		return span.TraceID().String(), true
	}
	if values := r.Header[wire.TraceparentHeader]; len(values) == 1 {
		return wire.TraceID(values[0]), false
	}
	return "", false
}
