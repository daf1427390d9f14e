package tracing

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracer makes the spans of the gateway.
type Tracer struct {
	trace.Tracer

	sampler sdktrace.Sampler
}

// StartRequest starts the span of a request that the gateway serves, as a child of the span in ctx if
// there is one. The caller ends it.
//
// The sampler is asked first. If it drops the request, no span is made, and ctx is returned as it is:
// with the SDK alone, a span that is not recorded costs as much as a log record. The span context is
// then that of the span that was not made, which the upstream gets as its parent.
func (t *Tracer) StartRequest(ctx context.Context, name string) (context.Context, trace.SpanContext) {
	const kind = trace.SpanKindServer
	parent := trace.SpanContextFromContext(ctx)
	id := parent.TraceID()
	if !parent.IsValid() {
		id = newTraceID()
	}
	if t.sampler.ShouldSample(sdktrace.SamplingParameters{ParentContext: ctx, TraceID: id, Name: name, Kind: kind}).Decision == sdktrace.Drop {
		return ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: newSpanID(), TraceState: parent.TraceState()})
	}
	if !parent.IsValid() {
		ctx = context.WithValue(ctx, traceIDKey{}, id)
	}
	ctx, span := t.Start(ctx, name, trace.WithSpanKind(kind)) //nolint:spancheck // the caller ends it
	return ctx, span.SpanContext()
}

type traceIDKey struct{}

// idGenerator makes random ids. A trace gets the id that the sampler has decided on.
type idGenerator struct{}

// NewIDs implements [sdktrace.IDGenerator].
func (idGenerator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if id, ok := ctx.Value(traceIDKey{}).(trace.TraceID); ok {
		return id, newSpanID()
	}
	return newTraceID(), newSpanID()
}

// NewSpanID implements [sdktrace.IDGenerator].
func (idGenerator) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return newSpanID() }

// The ids of W3C Trace Context must be random and must not be zero. They are not secret.

func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // it need not be unpredictable
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // it need not be unpredictable
	}
	return id
}

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64()) //nolint:gosec // it need not be unpredictable
	}
	return id
}

// samplerOf returns the sampler that OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG name. The SDK
// reads them too, but does not hand over its sampler.
func samplerOf(getenv func(string) string) (sdktrace.Sampler, error) {
	name := cmp.Or(strings.ToLower(strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER"))), "parentbased_always_on")
	kind, parentBased := strings.CutPrefix(name, "parentbased_")
	var sampler sdktrace.Sampler
	switch kind {
	case "always_on":
		sampler = sdktrace.AlwaysSample()
	case "always_off":
		sampler = sdktrace.NeverSample()
	case "traceidratio":
		text := cmp.Or(strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER_ARG")), "1")
		part, err := strconv.ParseFloat(text, 64)
		if err != nil || !(part >= 0 && part <= 1) {
			return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q is not a part of the traces; use a number from 0 to 1, such as 0.1", text)
		}
		sampler = sdktrace.TraceIDRatioBased(part)
	default:
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER: %q is not supported; use always_on, always_off or traceidratio, or one of them with parentbased_ before it", name)
	}
	if parentBased {
		sampler = sdktrace.ParentBased(sampler)
	}
	return sampler, nil
}
