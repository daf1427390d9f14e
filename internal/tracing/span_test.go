package tracing_test

import (
	"context"
	"encoding/hex"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/google/go-cmp/cmp"

	"github.com/meshtrade/mesh-gateway/internal/tracing"
)

// recorder decodes the spans that it records.
type recorder struct {
	t     *testing.T
	spans []*tracepb.Span
}

func (r *recorder) record(wire []byte) {
	span := new(tracepb.Span)
	if err := (proto.UnmarshalOptions{DiscardUnknown: false}).Unmarshal(wire, span); err != nil {
		r.t.Errorf("%v: %x", err, wire)
	}
	if unknown := span.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		r.t.Errorf("OTLP does not have the fields %x", unknown)
	}
	r.spans = append(r.spans, span)
}

func parse(t *testing.T, traceID, spanID, state string, flags trace.TraceFlags) trace.SpanContext {
	t.Helper()
	id, errTrace := trace.TraceIDFromHex(traceID)
	span, errSpan := trace.SpanIDFromHex(spanID)
	parsed, errState := trace.ParseTraceState(state)
	if errTrace != nil || errSpan != nil || errState != nil {
		t.Fatal(errTrace, errSpan, errState)
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceState: parsed, TraceFlags: flags, Remote: true})
}

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func number(key string, value int64) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: value}}}
}

// TestSpans has a request of a client that is traced, and its call to the upstream.
func TestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{t: t}
		tracer := tracing.NewTracer(sampler(t, "", ""), r.record)
		client := parse(t, "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "vendor=value", trace.FlagsSampled)
		begin := time.Now()
		request, of := tracer.StartRequest(t.Context(), client)
		time.Sleep(time.Millisecond)
		call := tracing.StartCall(context.WithValue(request, new(int), "a context within"))
		time.Sleep(time.Millisecond)
		call.End(tracing.Ended{Name: "a call", Failed: true, Message: "UNAVAILABLE"}, attribute.String("empty", ""), attribute.Int("number", -1))
		time.Sleep(time.Millisecond)
		request.End(tracing.Ended{Name: "a request"}, attribute.Int("status", 503))

		at := func(after time.Duration) uint64 { return uint64(begin.Add(after).UnixNano()) }
		spanOf := func(of trace.SpanContext) []byte { id := of.SpanID(); return id[:] }
		traceID, _ := hex.DecodeString("0af7651916cd43dd8448eb211c80319c")
		clientID, _ := hex.DecodeString("b7ad6b7169203331")
		want := []*tracepb.Span{
			{
				TraceId: traceID, SpanId: spanOf(call.SpanContext()), TraceState: "vendor=value", ParentSpanId: spanOf(of), Name: "a call",
				Kind: tracepb.Span_SPAN_KIND_CLIENT, StartTimeUnixNano: at(time.Millisecond), EndTimeUnixNano: at(2 * time.Millisecond),
				Attributes: []*commonpb.KeyValue{text("empty", ""), number("number", -1)},
				Status:     &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "UNAVAILABLE"}, Flags: 0x101,
			},
			{
				TraceId: traceID, SpanId: spanOf(of), TraceState: "vendor=value", ParentSpanId: clientID, Name: "a request",
				Kind: tracepb.Span_SPAN_KIND_SERVER, StartTimeUnixNano: at(0), EndTimeUnixNano: at(3 * time.Millisecond),
				Attributes: []*commonpb.KeyValue{number("status", 503)}, Flags: 0x301,
			},
		}
		if difference := cmp.Diff(want, r.spans, protocmp.Transform()); difference != "" {
			t.Error(difference)
		}
	})
}

func TestSpanWithoutParent(t *testing.T) {
	r := &recorder{t: t}
	request, of := tracing.NewTracer(sampler(t, "", ""), r.record).StartRequest(t.Context(), trace.SpanContext{})
	request.End(tracing.Ended{Name: "a request", Failed: true})
	span := r.spans[0]
	if len(span.GetParentSpanId()) > 0 || span.GetFlags() != 0x101 || span.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("the span is %v, want one without a parent and with an error", span)
	}
	if got := hex.EncodeToString(span.GetTraceId()); got != of.TraceID().String() {
		t.Errorf("the trace is %s, want %s", got, of.TraceID())
	}
}

func TestCallOfARequestThatIsNotSampled(t *testing.T) {
	if span := tracing.StartCall(t.Context()); span != nil {
		t.Errorf("the call has a span of the trace %s", span.SpanContext().TraceID())
	}
}
