package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshtrade/mesh-gateway/internal/admission"
)

// RegisterAdmission adds the metrics of the admission of calls. It must be called at most once.
func (m *Metrics) RegisterAdmission(c *admission.Control) {
	for _, s := range c.Services() {
		labels := prometheus.Labels{"service": s.Name()}
		m.gauge("admission_limit", "Calls of the service that may be in flight, or 0 if there is no limit because there is no overload.", labels, s.Limit)
		m.gauge("admission_in_flight", "Calls of the service that are in flight, without open streams.", labels, s.InFlight)
		m.gauge("admission_queued", "Calls of the service that wait until fewer are in flight.", labels, s.Queued)
	}
	m.gauge("admission_gateway_calls", "Calls of all services that are in the gateway, without streams.", nil, c.InGateway)
	m.gauge("admission_gateway_limit", "Calls that may be in the gateway, or 0 if there is no limit because it has enough CPU time.", nil, c.GatewayLimit)
	for _, class := range admission.Classes() {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "admission_refused_total", Help: "Calls that were refused because of an overload. Nothing was sent to Mesh.",
			ConstLabels: prometheus.Labels{"class": class.String()},
		}, func() float64 { return float64(c.Refused(class)) }))
	}
	m.counter("admission_late_total", "Writes that were refused because their deadline comes before Mesh would have finished them. Nothing was sent.", nil, c.Late)
}
