// Package otlp sends spans to a collector of OpenTelemetry, by its standard environment variables.
//
// Traces are off unless OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set. Also
// read are OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER (otlp or none), OTEL_EXPORTER_OTLP_PROTOCOL
// (http/protobuf, the default, or grpc) and the like for traces, OTEL_TRACES_SAMPLER,
// OTEL_TRACES_SAMPLER_ARG, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and OTEL_BSP_*, and by the
// exporters of OpenTelemetry, which send the spans, the other OTEL_EXPORTER_OTLP_*
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
//
// The autoexport package of opentelemetry-go-contrib reads them too, but links all exporters of
// traces, metrics and logs.
package otlp

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"

	"github.com/meshtrade/mesh-gateway/internal/tracing"
)

// FromEnvironment returns the exporter that the environment describes, or nil if it describes none.
// The error names the variable. The version is that of this build. The caller closes the exporter.
func FromEnvironment(ctx context.Context, getenv func(string) string, version string, logger *slog.Logger) (*Exporter, error) {
	endpoint := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if endpoint == "" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil //nolint:nilnil // nil is an Exporter
	}
	switch exporter := getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "", "otlp":
	case "none":
		return nil, nil //nolint:nilnil // nil is an Exporter
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER: %q is not supported; use otlp or none", exporter)
	}
	sampler, err := tracing.ParseSampler(getenv)
	if err != nil {
		return nil, err
	}
	limits, err := parseLimits(getenv)
	if err != nil {
		return nil, err
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
	described := describe(ctx, version, logger)
	// It does not connect.
	if err := client.Start(ctx); err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	e := newExporter(client, limits, described, version, logger)
	e.tracer = tracing.NewTracer(sampler, e.record)
	return e, nil
}

// describe returns the resource that the spans are of. The attributes of the environment win.
func describe(ctx context.Context, version string, logger *slog.Logger) *resourcepb.Resource {
	// Part of a resource is better than none.
	described, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "mesh-gateway"), attribute.String("service.version", version),
	), resource.WithFromEnv())
	if err != nil {
		logger.Warn("OTEL_RESOURCE_ATTRIBUTES is not valid; what is valid of it is used", slog.Any("error", err))
	}
	into := new(resourcepb.Resource)
	for _, a := range described.Attributes() { // all are strings
		into.Attributes = append(into.Attributes, &commonpb.KeyValue{
			Key: string(a.Key), Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: a.Value.AsString()}},
		})
	}
	return into
}
