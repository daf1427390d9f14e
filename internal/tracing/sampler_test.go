package tracing_test

import (
	"context"
	"log/slog"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrade/mesh-gateway/internal/tracing"
)

// tracerOf returns a tracer with a sampler. Its spans go nowhere.
func tracerOf(t *testing.T, sampler, argument string) *tracing.Tracer {
	t.Helper()
	environment := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument,
	}
	provider, err := tracing.FromEnvironment(t.Context(), func(name string) string { return environment[name] }, "v1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Close)
	return provider.Tracer()
}

func TestStartRequest(t *testing.T) {
	client := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true})
	sampled := client.WithTraceFlags(trace.FlagsSampled)
	for _, test := range []struct {
		name, sampler string
		parent        trace.SpanContext
		want          bool
	}{
		{"the default", "", trace.SpanContext{}, true},
		{"the default, and a client that does not sample", "", client, false},
		{"the default, and a client that samples", "", sampled, true},
		{"always", "always_on", client, true},
		{"never", "always_off", sampled, false},
		{"never by itself", "parentbased_always_off", trace.SpanContext{}, false},
		{"never by itself, and a client that samples", "parentbased_always_off", sampled, true},
		{"a part of nothing", "TraceIDRatio", sampled, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			parent := trace.ContextWithRemoteSpanContext(t.Context(), test.parent)
			ctx, of := tracerOf(t, test.sampler, "0").StartRequest(parent, "GET")
			if of.IsSampled() != test.want {
				t.Errorf("sampled is %t, want %t", of.IsSampled(), test.want)
			}
			if !of.IsValid() || of.SpanID() == test.parent.SpanID() || test.parent.IsValid() && of.TraceID() != test.parent.TraceID() {
				t.Errorf("trace %s, span %s, want a new span of trace %s", of.TraceID(), of.SpanID(), test.parent.TraceID())
			}
			if test.want != (trace.SpanContextFromContext(ctx).SpanID() == of.SpanID()) {
				t.Errorf("the context has span %s, want %s if it is sampled", trace.SpanContextFromContext(ctx).SpanID(), of.SpanID())
			}
		})
	}
}

func TestPartOfTheRequests(t *testing.T) {
	tracer, sampled := tracerOf(t, "parentbased_traceidratio", "0.25"), 0
	ids := make(map[trace.TraceID]bool)
	for range 10_000 {
		_, of := tracer.StartRequest(context.Background(), "GET")
		ids[of.TraceID()] = true
		if of.IsSampled() {
			sampled++
		}
	}
	if sampled < 2200 || sampled > 2800 { // 7 standard deviations
		t.Errorf("%d of 10,000 requests are sampled, want about 2,500", sampled)
	}
	if len(ids) != 10_000 {
		t.Errorf("%d trace ids, want one for each request", len(ids))
	}
}
