package tracing_test

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrade/mesh-gateway/internal/tracing"
)

func sampler(t *testing.T, name, argument string) tracing.Sampler {
	t.Helper()
	environment := map[string]string{"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
	s, err := tracing.ParseSampler(func(name string) string { return environment[name] })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStartRequest(t *testing.T) {
	client := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true})
	sampled := client.WithTraceFlags(trace.FlagsSampled)
	for _, test := range []struct {
		name, sampler string
		client        trace.SpanContext
		want          bool
	}{
		{"the default", "", trace.SpanContext{}, true},
		{"the default, and a client that does not sample", "", client, false},
		{"the default, and a client that samples", "", sampled, true},
		{"always", "always_on", client, true},
		{"never", "always_off", sampled, false},
		{"never by itself", "parentbased_always_off", trace.SpanContext{}, false},
		{"never by itself, and a client that samples", "parentbased_always_off", sampled, true},
		{"no part", "TraceIDRatio", sampled, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			span, of := tracing.NewTracer(sampler(t, test.sampler, "0"), nil).StartRequest(test.client)
			if of.IsSampled() != test.want || (span != nil) != test.want {
				t.Errorf("sampled is %t with the span %v, want %t", of.IsSampled(), span, test.want)
			}
			if !of.IsValid() || of.SpanID() == test.client.SpanID() || test.client.IsValid() && of.TraceID() != test.client.TraceID() {
				t.Errorf("trace %s, span %s, want a new span of trace %s", of.TraceID(), of.SpanID(), test.client.TraceID())
			}
		})
	}
}

func TestPartOfTheRequests(t *testing.T) {
	tracer, sampled := tracing.NewTracer(sampler(t, "parentbased_traceidratio", "0.25"), nil), 0
	ids := make(map[trace.TraceID]bool)
	for range 10_000 {
		_, of := tracer.StartRequest(trace.SpanContext{})
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

func TestParseSampler(t *testing.T) {
	for _, test := range []struct{ name, sampler, argument, want string }{
		{"a sampler of another kind", "xray", "", "OTEL_TRACES_SAMPLER: "},
		{"a part of more than all", "traceidratio", "10", "OTEL_TRACES_SAMPLER_ARG: "},
		{"a negative part", "traceidratio", "-0.1", "OTEL_TRACES_SAMPLER_ARG: "},
		{"a part that is not a number", "parentbased_traceidratio", "10%", "OTEL_TRACES_SAMPLER_ARG: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			environment := map[string]string{"OTEL_TRACES_SAMPLER": test.sampler, "OTEL_TRACES_SAMPLER_ARG": test.argument}
			_, err := tracing.ParseSampler(func(name string) string { return environment[name] })
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v, want one of %s", err, test.want)
			}
		})
	}
}
