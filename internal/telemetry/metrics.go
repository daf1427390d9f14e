// Package telemetry provides the metrics of the gateway in the formats of Prometheus. Names follow
// the conventions of Prometheus (https://prometheus.io/docs/practices/naming/) and start with
// "mesh_gateway_". The Go runtime and the process have the names of the official client.
//
// What happens during a request is counted as it happens ([Method]). What another part of the
// gateway knows anyway is read from it at each scrape (sources.go).
package telemetry

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// namespace is the first part of all names.
const namespace = "mesh_gateway"

// Metrics are the metrics of a gateway, in a registry of their own. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	methods  map[*contract.Method]*Method
	// other counts requests for routes that are not RPCs.
	other *Method
}

// New returns metrics in which every method of the contract is zero. The version is that of this
// build.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), methods: make(map[*contract.Method]*Method)}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "The version of the gateway and the release of Go that built it. The value is always 1.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	requests := newRequests(m.registry)
	for _, method := range contract.Methods() {
		m.methods[method] = requests.of(method.Name())
	}
	m.other = requests.of(otherRPC)
	return m
}

// Handler returns the handler of /metrics. It responds in the text format of Prometheus, in
// OpenMetrics or in protobuf, as the client accepts; native histograms exist in protobuf only.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		// Scrapes that overlap share their work.
		CoalesceGather: true,
	})
}
