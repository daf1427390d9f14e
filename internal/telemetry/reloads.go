package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Reloads counts the reloads of the configuration.
type Reloads struct {
	total               *prometheus.CounterVec
	successful, success prometheus.Gauge
}

// RegisterReloads adds the metrics of reloads of the configuration, which has just been read for the
// first time. It must be called at most once.
func (m *Metrics) RegisterReloads() *Reloads {
	r := &Reloads{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "config_reloads_total", Help: "Reloads of the configuration, by their result: success or failure.",
		}, []string{"result"}),
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "config_last_reload_successful", Help: "1 if the last reload of the configuration succeeded or there was none, 0 if it failed and the values before it are still used.",
		}),
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "config_last_reload_success_timestamp_seconds", Help: "When the configuration that is used was read, in seconds since 1970.",
		}),
	}
	for _, result := range []string{"success", "failure"} {
		r.total.WithLabelValues(result)
	}
	r.successful.Set(1)
	r.success.SetToCurrentTime()
	m.registry.MustRegister(r.total, r.successful, r.success)
	return r
}

// Count counts a reload at the time.
func (r *Reloads) Count(err error, at time.Time) {
	if err != nil {
		r.total.WithLabelValues("failure").Inc()
		r.successful.Set(0)
		return
	}
	r.total.WithLabelValues("success").Inc()
	r.successful.Set(1)
	r.success.Set(float64(at.UnixNano()) / float64(time.Second))
}
