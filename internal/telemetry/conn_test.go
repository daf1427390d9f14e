package telemetry_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/tracing"
)

// upstream records the metadata of its calls.
type upstream struct {
	grpc.ClientConnInterface

	received []metadata.MD
}

func (u *upstream) Invoke(ctx context.Context, _ string, _, _ any, _ ...grpc.CallOption) error {
	md, _ := metadata.FromOutgoingContext(ctx)
	u.received = append(u.received, md)
	return nil
}

// TestTraceparentOfCalls checks the traceparents of two calls that one request makes.
func TestTraceparentOfCalls(t *testing.T) {
	for _, test := range []struct {
		name    string
		sampled bool
	}{{"sampled", true}, {"not sampled", false}} {
		t.Run(test.name, func(t *testing.T) {
			client := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.TraceFlags(0).WithSampled(test.sampled), Remote: true})
			sampler, err := tracing.ParseSampler(func(string) string { return "" })
			if err != nil {
				t.Fatal(err)
			}
			spans := 0
			request, upstreamSpan := tracing.NewTracer(sampler, func([]byte) { spans++ }).StartRequest(client)
			first := tracing.Traceparent(upstreamSpan)
			call := telemetry.NewCall(metadata.NewOutgoingContext(t.Context(), metadata.Pairs("traceparent", first, "tracestate", "vendor=value")))
			call.Span = request
			u := new(upstream)
			conn := telemetry.NewConn(u, telemetry.New("v1"))
			for range 2 {
				if err := conn.Invoke(call, getGroup, nil, nil); err != nil {
					t.Fatal(err)
				}
			}
			var traceparents []string
			for _, md := range u.received {
				if len(md["traceparent"]) != 1 || len(md["tracestate"]) != 1 {
					t.Fatalf("the metadata is %v, want one traceparent and one tracestate", md)
				}
				traceparents = append(traceparents, md["traceparent"][0])
			}
			wantSpans := 0
			if test.sampled {
				wantSpans = 2
			}
			if traceparents[0] != first || (traceparents[1] != first) != test.sampled || spans != wantSpans {
				t.Errorf("%d spans, and the upstream received %q; the request has %q", spans, traceparents, first)
			}
			if traceparents[1][:36] != first[:36] {
				t.Errorf("the calls are of the traces of %q", traceparents)
			}
		})
	}
}
