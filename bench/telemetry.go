package main

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
)

const (
	collectorRole = "collector"
	// noTelemetry is mesh-gateway without a log of requests and without traces. Its metrics are
	// counted: they cannot be turned off.
	noTelemetry = "off"
)

// newTelemetryPeers returns mesh-gateway without telemetry, with which the others are compared, and
// with more and more of it. The last has all of it, as an operator may run it.
func newTelemetryPeers(dir, collector string) []peer {
	nothing := func(*row) string { return "" }
	gateway := func(name string, environment []string, flags ...string) peer {
		return peer{name: name, lacks: nothing, store: memoryStore, flags: flags, environment: environment}
	}
	traces := func(part string) []string {
		return []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + collector,
			"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=" + part,
		}
	}
	audited := []string{"--audit-log", filepath.Join(dir, "audit.log")}
	quiet := []string{"--log-level", "error"}
	return []peer{
		gateway(noTelemetry, nil, quiet...),
		gateway("log", nil),
		gateway("traces of a tenth", traces("0.1"), quiet...),
		gateway("traces of all", traces("1"), quiet...),
		gateway("flight recorder", nil, append(quiet, "--flight-recorder")...),
		gateway("log, traces of a tenth", traces("0.1"), audited...),
		gateway("log, traces of all", traces("1"), audited...),
	}
}

// measureTelemetry measures what the telemetry of mesh-gateway costs.
func measureTelemetry(ctx context.Context, f *field, o *options, r *row) (*report, error) {
	collector, err := f.startRole(collectorRole, "")
	if err != nil {
		return nil, err
	}
	defer collector.stop()
	if err := collector.ready(ctx); err != nil {
		return nil, err
	}
	measured := &report{
		Requests: o.requests, rows: []*row{r},
		title: "What telemetry costs",
		Notes: []string{"The collector of traces takes part in the machine's load. Its own CPU time is not in the figures."},
		peers: newTelemetryPeers(f.dir, collector.address),
	}
	return measured, measured.measureAll(ctx, f, o)
}

// newCollector returns a collector of traces that throws them away.
func newCollector() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer is one without errors
	})
}
