package otlp_test

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/tracing"
	"github.com/meshtrade/mesh-gateway/internal/tracing/otlp"
)

func TestFromEnvironment(t *testing.T) {
	const endpoint, ofTraces = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	const collector = "http://127.0.0.1:1"
	for _, test := range []struct {
		name        string
		environment map[string]string
		traces      bool
		fails       bool
	}{
		{"nothing", nil, false, false},
		{"an endpoint", map[string]string{endpoint: collector}, true, false},
		{"an endpoint of traces", map[string]string{ofTraces: collector}, true, false},
		{"the exporter otlp", map[string]string{endpoint: collector, "OTEL_TRACES_EXPORTER": "otlp"}, true, false},
		{"no exporter", map[string]string{endpoint: collector, "OTEL_TRACES_EXPORTER": "none"}, false, false},
		{"another exporter", map[string]string{endpoint: collector, "OTEL_TRACES_EXPORTER": "zipkin"}, false, true},
		{"an exporter without an endpoint", map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, false, false},
		{"disabled", map[string]string{endpoint: collector, "OTEL_SDK_DISABLED": "True"}, false, false},
		{"not disabled", map[string]string{endpoint: collector, "OTEL_SDK_DISABLED": "false"}, true, false},
		{"gRPC", map[string]string{endpoint: collector, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, false},
		{"another protocol", map[string]string{endpoint: collector, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, false, true},
		{"a sampler", map[string]string{endpoint: collector, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}, true, false},
		{"another sampler", map[string]string{endpoint: collector, "OTEL_TRACES_SAMPLER": "xray"}, false, true},
		{"a part of more than all", map[string]string{endpoint: collector, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10"}, false, true},
		{"a part that is not a number", map[string]string{endpoint: collector, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"}, false, true},
		{"another protocol of traces", map[string]string{endpoint: collector, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "x"}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			exporter, err := otlp.FromEnvironment(t.Context(), func(name string) string { return test.environment[name] }, "v1", slog.New(slog.DiscardHandler))
			if (err != nil) != test.fails || (exporter.Tracer() != nil) != test.traces {
				t.Errorf("exporter %v, error %v", exporter, err)
			}
			exporter.Close()
		})
	}
}

// collector is a collector of traces over OTLP/gRPC.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer

	received chan string
}

func (c *collector) Export(_ context.Context, request *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	for _, resource := range request.GetResourceSpans() {
		for _, attribute := range resource.GetResource().GetAttributes() {
			if attribute.GetKey() == "service.name" {
				c.received <- attribute.GetValue().GetStringValue()
			}
		}
	}
	return new(coltracepb.ExportTraceServiceResponse), nil
}

// TestGRPC sends a span over the other protocol. The service has the name of OTEL_SERVICE_NAME.
func TestGRPC(t *testing.T) {
	for _, name := range []string{"", "edge"} {
		t.Run("OTEL_SERVICE_NAME="+name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server, c := grpc.NewServer(), &collector{received: make(chan string, 1)}
			coltracepb.RegisterTraceServiceServer(server, c)
			go func() { _ = server.Serve(listener) }() // until it is stopped
			defer server.Stop()
			environment := map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + listener.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_SERVICE_NAME": name,
			}
			for name, value := range environment {
				t.Setenv(name, value) // the exporter reads it itself
			}
			exporter, err := otlp.FromEnvironment(t.Context(), func(name string) string { return environment[name] }, "v1", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			span, _ := exporter.Tracer().StartRequest(trace.SpanContext{})
			span.End(tracing.Ended{Description: tracing.Describe("a span")})
			exporter.Close()
			want := name
			if want == "" {
				want = "mesh-gateway"
			}
			if got := <-c.received; got != want || exporter.Exported() != 1 || exporter.Failed() != 0 {
				t.Errorf("service %q, want %q; %d exported, %d failed", got, want, exporter.Exported(), exporter.Failed())
			}
		})
	}
}
