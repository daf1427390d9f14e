package middleware

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/tracing"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Trace begins a server span for each request that is sampled, as a child of the client's if the
// request has a Traceparent. It requires [Observe], whose observer [EndSpan] ends the span.
//
// It replaces Traceparent and Tracestate with those of the first call to the upstream
// ([tracing.Tracer.StartRequest]). A request that is not sampled has no span, and its Traceparent says
// so.
//
// otelhttp would wrap the response writer a second time, measure what [Count] does, and name the span
// before the route is known.
func Trace(tracer *tracing.Tracer) func(http.Handler) http.Handler {
	var propagator propagation.TraceContext
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var client trace.SpanContext
			// Several are ambiguous, so none of them is the parent.
			if len(r.Header[wire.TraceparentHeader]) == 1 {
				client = trace.SpanContextFromContext(propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header)))
			}
			span, upstream := tracer.StartRequest(client)
			if observed := responseOf(w); observed != nil {
				observed.span = span
			}
			r.Header[wire.TraceparentHeader] = []string{tracing.Traceparent(upstream)}
			delete(r.Header, wire.TracestateHeader)
			if state := upstream.TraceState(); state.Len() > 0 {
				r.Header[wire.TracestateHeader] = []string{state.String()}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// EndSpan returns an observer ([Observe]) that names the span of a request by its route and ends it. The
// attributes have no value that a client chose, except the request id: paths and queries contain the
// names of resources.
func EndSpan() func(*Observation) {
	routes := make(map[*contract.Binding]tracing.Description)
	for _, method := range contract.Methods() {
		for _, binding := range method.Bindings {
			routes[binding] = describe(binding.Verb, binding.Template)
		}
	}
	return func(o *Observation) {
		if o.span == nil {
			return
		}
		description, known := routes[o.Binding]
		if !known || o.Request.Method != o.Binding.Verb { // such as HEAD
			description = describe(o.Request.Method, o.Route)
		}
		attributes := make([]attribute.KeyValue, 0, 4)
		attributes = append(attributes,
			attribute.Int("http.response.status_code", o.Status),
			attribute.String("mesh_gateway.request_id", o.Header.Get(wire.RequestIDHeader)),
		)
		if o.Err != nil {
			attributes = append(attributes, attribute.String("mesh_gateway.code", o.CodeName()))
			if o.Reason != "" {
				attributes = append(attributes, attribute.String("error.type", string(o.Reason)))
			}
		}
		o.span.End(tracing.Ended{Description: description, Begin: o.Begin, Duration: o.Duration, Failed: o.Status >= http.StatusInternalServerError}, attributes...)
	}
}

// describe describes the spans of a route, which is "" if none matched.
func describe(verb, path string) tracing.Description {
	name, attributes := verb, []attribute.KeyValue{attribute.String("http.request.method", verb)}
	if path != "" {
		name += " " + path
		attributes = append(attributes, attribute.String("http.route", path))
	}
	return tracing.Describe(name, attributes...)
}
