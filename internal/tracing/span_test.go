package tracing_test

import (
	"encoding/hex"
	"testing"
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

// TestSpans has a request of a client that is traced, and its two calls to the upstream.
func TestSpans(t *testing.T) {
	r := &recorder{t: t}
	tracer := tracing.NewTracer(sampler(t, "", ""), r.record)
	client := parse(t, "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "vendor=value", trace.FlagsSampled)
	begin := time.Now()
	request, upstream := tracer.StartRequest(client)
	first, isFirst := request.StartCall()
	first.End(tracing.Ended{Description: tracing.Describe("a call"), Begin: begin.Add(time.Millisecond), Duration: time.Millisecond, Failed: true, Message: "UNAVAILABLE"},
		attribute.String("empty", ""), attribute.Int("number", -1))
	second, isSecond := request.StartCall()
	second.End(tracing.Ended{Description: tracing.Describe("another call"), Begin: begin, Duration: 0})
	request.End(tracing.Ended{Description: tracing.Describe("a request", attribute.String("route", "/x")), Begin: begin, Duration: 3 * time.Millisecond}, attribute.Int("status", 503))

	at := func(after time.Duration) uint64 { return uint64(begin.Add(after).UnixNano()) }
	spanOf := func(of trace.SpanContext) []byte { id := of.SpanID(); return id[:] }
	traceID, _ := hex.DecodeString("0af7651916cd43dd8448eb211c80319c")
	clientID, _ := hex.DecodeString("b7ad6b7169203331")
	own := request.SpanContext()
	want := []*tracepb.Span{
		{
			TraceId: traceID, SpanId: spanOf(upstream), TraceState: "vendor=value", ParentSpanId: spanOf(own), Name: "a call",
			Kind: tracepb.Span_SPAN_KIND_CLIENT, StartTimeUnixNano: at(time.Millisecond), EndTimeUnixNano: at(2 * time.Millisecond),
			Attributes: []*commonpb.KeyValue{text("empty", ""), number("number", -1)},
			Status:     &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "UNAVAILABLE"}, Flags: 0x101,
		},
		{
			TraceId: traceID, SpanId: spanOf(second.SpanContext()), TraceState: "vendor=value", ParentSpanId: spanOf(own), Name: "another call",
			Kind: tracepb.Span_SPAN_KIND_CLIENT, StartTimeUnixNano: at(0), EndTimeUnixNano: at(0), Flags: 0x101,
		},
		{
			TraceId: traceID, SpanId: spanOf(own), TraceState: "vendor=value", ParentSpanId: clientID, Name: "a request",
			Kind: tracepb.Span_SPAN_KIND_SERVER, StartTimeUnixNano: at(0), EndTimeUnixNano: at(3 * time.Millisecond),
			Attributes: []*commonpb.KeyValue{text("route", "/x"), number("status", 503)}, Flags: 0x301,
		},
	}
	if difference := cmp.Diff(want, r.spans, protocmp.Transform()); difference != "" {
		t.Error(difference)
	}
	if !isFirst || isSecond {
		t.Errorf("first is %v for the first call and %v for the second", isFirst, isSecond)
	}
	if ids := []trace.SpanID{own.SpanID(), upstream.SpanID(), second.SpanContext().SpanID()}; ids[0] == ids[1] || ids[1] == ids[2] || ids[0] == ids[2] {
		t.Errorf("the ids are %v, want three", ids)
	}
}

func TestSpanWithoutParent(t *testing.T) {
	r := &recorder{t: t}
	request, upstream := tracing.NewTracer(sampler(t, "", ""), r.record).StartRequest(trace.SpanContext{})
	request.End(tracing.Ended{Description: tracing.Describe("a request"), Failed: true})
	span := r.spans[0]
	if len(span.GetParentSpanId()) > 0 || span.GetFlags() != 0x101 || span.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("the span is %v, want one without a parent and with an error", span)
	}
	if got := hex.EncodeToString(span.GetTraceId()); got != upstream.TraceID().String() {
		t.Errorf("the trace is %s, want %s", got, upstream.TraceID())
	}
}

func TestCallOfARequestThatIsNotSampled(t *testing.T) {
	request, _ := tracing.NewTracer(sampler(t, "always_off", ""), func(span []byte) { t.Errorf("a span is recorded: %x", span) }).StartRequest(trace.SpanContext{})
	call, first := request.StartCall()
	call.End(tracing.Ended{Description: tracing.Describe("a call")})
	if call.IsRecording() || !first {
		t.Errorf("recording %v, first %v; want a span that is not recorded, and no traceparent of its own", call.IsRecording(), first)
	}
}

func TestTraceparent(t *testing.T) {
	for _, test := range []struct {
		name  string
		flags trace.TraceFlags
		want  string
	}{
		{"sampled", trace.FlagsSampled, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{"not sampled", 0, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
		{"with other flags", 0xff, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	} {
		t.Run(test.name, func(t *testing.T) {
			span := parse(t, "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "", test.flags)
			if got := tracing.Traceparent(span); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
