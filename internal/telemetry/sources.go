package telemetry

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/connectivity"
)

// Budget is read from the budget of bytes in flight: request bodies and replies of the upstream.
// The functions must be safe for concurrent use.
type Budget struct {
	// Held is how many bytes are held at the moment.
	Held func() int64
	// Limit is how many bytes may be held.
	Limit int64
	// Refused is how many calls were refused since the start.
	Refused func() int64
	// Overshoot is how many replies since the start made the bytes held exceed the limit.
	Overshoot func() int64
}

// RegisterBudget adds the metrics of the budget. It must be called at most once.
func (m *Metrics) RegisterBudget(b Budget) {
	m.gauge("budget_held_bytes", "Bytes of request bodies and replies that are held in memory.", nil, b.Held)
	m.gauge("budget_limit_bytes", "Bytes of request bodies and replies that may be held in memory (--max-inflight-bytes).", nil, func() int64 { return b.Limit })
	m.counter("budget_refused_total", "Calls that were refused because too many bytes were held. Nothing was sent to Mesh.", b.Refused)
	m.counter("budget_overshoot_total", "Replies that made the bytes held exceed the limit, because they were larger than expected.", b.Overshoot)
}

// Pool is read from the connections to the upstream. The functions must be safe for concurrent use.
type Pool struct {
	// Connections is how many connections are in a state.
	Connections func(connectivity.State) int
	// InFlight is how many calls are in flight, open streams included.
	InFlight func() int64
}

// RegisterPool adds the metrics of the connections to the upstream. It must be called at most once.
func (m *Metrics) RegisterPool(p Pool) {
	// A closed pool is not scraped, so there is no SHUTDOWN.
	for _, state := range []connectivity.State{connectivity.Idle, connectivity.Connecting, connectivity.Ready, connectivity.TransientFailure} {
		m.gauge("upstream_connections", "Connections to Mesh, by their state in gRPC.",
			prometheus.Labels{"state": strings.ToLower(state.String())}, func() int64 { return int64(p.Connections(state)) })
	}
	m.gauge("upstream_calls_in_flight", "Calls to Mesh that are in flight, open streams included.", nil, p.InFlight)
}

// RegisterFallbacks adds a counter of the replies that protojson wrote because wirejson could not.
// The function must be safe for concurrent use. RegisterFallbacks must be called at most once.
func (m *Metrics) RegisterFallbacks(count func() int64) {
	m.counter("reply_fallbacks_total", "Replies that were written from messages instead of directly from their wire form, which is slower.", count)
}

// RegisterStreams adds a gauge of the open streams. The function must be safe for concurrent use.
// RegisterStreams must be called at most once.
func (m *Metrics) RegisterStreams(open func() int64) {
	m.gauge("streams_open", "Streams that are open, of the maximum of --max-streams.", nil, open)
}

func (m *Metrics) gauge(name, help string, labels prometheus.Labels, read func() int64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels},
		func() float64 { return float64(read()) }))
}

func (m *Metrics) counter(name, help string, read func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help},
		func() float64 { return float64(read()) }))
}
