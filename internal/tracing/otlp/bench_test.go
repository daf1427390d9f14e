package otlp_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/tracing"
	"github.com/meshtrade/mesh-gateway/internal/tracing/otlp"
)

type nowhere struct{}

func (nowhere) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return nil }
func (nowhere) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, nil
}

// BenchmarkSpans makes the two spans of a request, and exports them to a collector in this process.
func BenchmarkSpans(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	for _, sampler := range []string{"always_on", "always_off"} {
		b.Run(sampler, func(b *testing.B) {
			environment := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_TRACES_SAMPLER": sampler}
			exporter, err := otlp.FromEnvironment(b.Context(), func(name string) string { return environment[name] }, "v1", slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			defer exporter.Close()
			tracer, method := exporter.Tracer(), contract.Methods()[0]
			conn, call := telemetry.NewConn(nowhere{}, telemetry.New("v1")), telemetry.NewCall(b.Context())
			description := tracing.Describe("GET /v1/{name=groups/*}", attribute.String("http.request.method", "GET"), attribute.String("http.route", "/v1/{name=groups/*}"))
			b.ReportAllocs()
			for b.Loop() {
				begin := time.Now()
				request, upstream := tracer.StartRequest(trace.SpanContext{})
				_ = tracing.Traceparent(upstream)
				call.Span = request
				if err := conn.Invoke(call, method.Name(), nil, nil); err != nil {
					b.Fatal(err)
				}
				if request != nil {
					request.End(tracing.Ended{Description: description, Begin: begin, Duration: time.Since(begin)}, attribute.Int("http.response.status_code", http.StatusOK))
				}
			}
		})
	}
}
