// Package tracing sets up OpenTelemetry by its standard environment variables.
//
// Traces are off unless OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set. Also
// read are OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER (otlp or none), OTEL_EXPORTER_OTLP_PROTOCOL
// (http/protobuf, the default, or grpc) and the like for traces, OTEL_TRACES_SAMPLER and
// OTEL_TRACES_SAMPLER_ARG, and by the SDK and its exporters OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_* and the other
// OTEL_EXPORTER_OTLP_*
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
//
// The autoexport package of opentelemetry-go-contrib reads them too, but links all exporters of
// traces, metrics and logs.
package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	serviceName = "mesh-gateway"
	// flushTimeout is how long the end of the program waits for the collector.
	flushTimeout = 3 * time.Second
	// reportInterval is the shortest time between two log records of failed exports.
	reportInterval = time.Minute
)

// Provider makes the spans of the gateway and exports them. The nil Provider is that of a gateway that
// does not trace.
type Provider struct {
	provider *sdktrace.TracerProvider
	exporter *exporter
	sampler  sdktrace.Sampler
}

// FromEnvironment returns the provider that the environment describes, or nil if it describes none.
// The error names the variable. The version is that of this build.
func FromEnvironment(ctx context.Context, getenv func(string) string, version string, logger *slog.Logger) (*Provider, error) {
	endpoint := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if endpoint == "" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil //nolint:nilnil // nil is a Provider
	}
	switch exporter := getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "", "otlp":
	case "none":
		return nil, nil //nolint:nilnil // nil is a Provider
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER: %q is not supported; use otlp or none", exporter)
	}
	var client otlptrace.Client
	switch protocol := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"); protocol {
	case "http/protobuf":
		client = otlptracehttp.NewClient()
	case "grpc":
		client = otlptracegrpc.NewClient()
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is not supported; use http/protobuf or grpc", protocol)
	}
	sampler, err := samplerOf(getenv)
	if err != nil {
		return nil, err
	}
	// It does not connect.
	otlp, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	// Those of the environment win. Part of a resource is better than none.
	described, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", serviceName), attribute.String("service.version", version),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		logger.Warn("OTEL_RESOURCE_ATTRIBUTES is not valid; what is valid of it is used", slog.Any("error", err))
	}
	exporter := &exporter{SpanExporter: otlp, logger: logger}
	return &Provider{
		provider: sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described),
			sdktrace.WithSampler(sampler), sdktrace.WithIDGenerator(idGenerator{})),
		exporter: exporter,
		sampler:  sampler,
	}, nil
}

// Tracer returns the tracer of the gateway, or nil if it does not trace.
func (p *Provider) Tracer() *Tracer {
	if p == nil {
		return nil
	}
	return &Tracer{p.provider.Tracer("github.com/meshtrade/mesh-gateway"), p.sampler}
}

// Exported and Failed return how many spans the collector received, and how many it could not be sent.
func (p *Provider) Exported() uint64 {
	if p == nil {
		return 0
	}
	return p.exporter.exported.Load()
}

// Failed returns how many spans the collector could not be sent.
func (p *Provider) Failed() uint64 {
	if p == nil {
		return 0
	}
	return p.exporter.failed.Load()
}

// Close exports the spans that wait, for at most 3 seconds. A collector that cannot be reached is not
// an error of the gateway: it is logged.
func (p *Provider) Close() {
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := p.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		p.exporter.logger.Warn("traces were not sent before the end", slog.Any("error", err))
	}
}

// exporter counts what it exports, and logs failures rarely instead of once per batch.
type exporter struct {
	sdktrace.SpanExporter

	logger           *slog.Logger
	exported, failed atomic.Uint64
	// reported is when a failure was last logged, in Unix nanoseconds, and since how many spans have
	// failed after that.
	reported atomic.Int64
	since    atomic.Uint64
}

// ExportSpans implements [sdktrace.SpanExporter]. It returns no error, since the SDK would log it each
// time.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		e.exported.Add(uint64(len(spans)))
		return nil
	}
	e.failed.Add(uint64(len(spans)))
	since := e.since.Add(uint64(len(spans)))
	now, last := time.Now().UnixNano(), e.reported.Load()
	if (last == 0 || now-last >= int64(reportInterval)) && e.reported.CompareAndSwap(last, now) {
		e.since.Store(0)
		e.logger.Warn("traces cannot be sent to their collector; they are dropped, and this is logged at most once a minute",
			slog.Uint64("spans", since), slog.Any("error", err))
	}
	return nil
}
