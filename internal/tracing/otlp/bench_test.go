package otlp_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
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
			method := contract.Methods()[0]
			conn := telemetry.NewConn(nowhere{}, telemetry.New("v1"))
			handler := middleware.Observe(middleware.EndSpan)(middleware.Trace(exporter.Tracer())(middleware.Method(method)(http.HandlerFunc(
				func(_ http.ResponseWriter, r *http.Request) { _ = conn.Invoke(r.Context(), method.Name(), nil, nil) }))))
			// It has no Traceparent, and the handler adds one.
			request := httptest.NewRequest(http.MethodGet, "/v1/groups/x", nil)
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				delete(request.Header, "Traceparent")
				handler.ServeHTTP(w, request)
			}
		})
	}
}
