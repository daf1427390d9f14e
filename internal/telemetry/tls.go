package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TLS is read from the certificates of one side of TLS. The functions must be safe for concurrent use.
type TLS struct {
	// NotAfter is when the certificate expires. The zero time stands for no certificate.
	NotAfter func() time.Time
	// Current reports whether the files contain what is in use. If not, they could not be used.
	Current func() bool
}

// RegisterTLS adds the metrics of the certificates for "clients" or the "upstream". It must be called
// at most once for each.
func (m *Metrics) RegisterTLS(side string, t TLS) {
	labels := prometheus.Labels{"side": side}
	if !t.NotAfter().IsZero() {
		m.gauge("tls_certificate_not_after_timestamp_seconds", "When the certificate in use expires, in seconds since 1970.", labels,
			func() int64 { return t.NotAfter().Unix() })
	}
	m.gauge("tls_last_reload_successful", "1 if the certificates in use are those of the files, 0 if the files have changed and cannot be used.", labels,
		func() int64 {
			if t.Current() {
				return 1
			}
			return 0
		})
}

// HTTP2Errors adds a counter of the errors of HTTP/2 clients, and returns a function that counts one.
// Its argument is a name that net/http gives to the kind of error; there are about 60. HTTP2Errors
// must be called at most once.
func (m *Metrics) HTTP2Errors() func(name string) {
	errors := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "http2_errors_total",
		Help: "Errors of HTTP/2 clients that ended a stream or the connection, by the name that net/http has for them.",
	}, []string{"error"})
	m.registry.MustRegister(errors)
	return func(name string) { errors.WithLabelValues(name).Inc() }
}
