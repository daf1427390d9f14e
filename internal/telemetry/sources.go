package telemetry

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/connectivity"

	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/policy"
)

// What a part of the gateway knows anyway is read from it at each scrape. There is a function
// RegisterX for each part X, which is called once where the part is made. docs/operations.md lists the
// metrics; a test fails if it does not.

// RegisterBudget adds the metrics of the budget. It must be called at most once.
func (m *Metrics) RegisterBudget(b *budget.Budget) {
	m.gauge("budget_held_bytes", "Bytes of memory that request bodies and replies hold.", nil, b.Held)
	m.gauge("budget_limit_bytes", "Bytes of memory that request bodies and replies may hold (--max-inflight-bytes).", nil, b.Limit)
	m.counter("budget_refused_total", "Calls that were refused because too many bytes were held. Nothing was sent to Mesh, or the call only reads.", nil, b.Refused)
	m.counter("budget_overshoot_total", "Replies that made the bytes held exceed the limit, because they were larger than expected.", nil, b.Overshoots)
}

// Pool is read from the connections to the upstream. The functions must be safe for concurrent use.
type Pool struct {
	// Connections is how many connections are in a state.
	Connections func(connectivity.State) int
	// InFlight is how many calls are in flight, open streams included.
	InFlight func() int64
	// Retired is how many connections take no new calls and wait for their last call to end.
	Retired func() int64
	// Retries, RefusedRetries, Waits, Probes and Left are counts since the start, which the help of
	// their metrics describes.
	Retries, RefusedRetries, Waits, Probes, Left func() uint64
}

// RegisterPool adds the metrics of the connections to the upstream. It must be called at most once.
func (m *Metrics) RegisterPool(p Pool) {
	// A closed pool is not scraped, so there is no SHUTDOWN.
	for _, state := range []connectivity.State{connectivity.Idle, connectivity.Connecting, connectivity.Ready, connectivity.TransientFailure} {
		m.gauge("upstream_connections", "Connections to Mesh, by their state in gRPC.",
			prometheus.Labels{"state": strings.ToLower(state.String())}, func() int64 { return int64(p.Connections(state)) })
	}
	m.gauge("upstream_calls_in_flight", "Calls to Mesh that are in flight, open streams included.", nil, p.InFlight)
	m.gauge("upstream_connections_retired", "Connections to Mesh that take no new calls and are closed when their last call ends.", nil, p.Retired)
	m.counter("upstream_retries_total", "Reads that were sent to Mesh again because their answer was lost, or because Mesh was unavailable.", nil, p.Retries)
	m.counter("upstream_retries_refused_total", "Reads that were not sent again because too many were.", nil, p.RefusedRetries)
	m.counter("upstream_waits_total", "Calls that waited for a connection to Mesh.", nil, p.Waits)
	m.counter("upstream_probes_total", "Health checks that were sent because nothing arrived on a connection to Mesh.", nil, p.Probes)
	m.counter("upstream_connections_left_total", "Connections to Mesh that were replaced because a health check on them had no answer.", nil, p.Left)
}

// Fallbacks adds a counter of the replies that were written from messages, because wirejson could
// not write them. It must be called at most once.
func (m *Metrics) Fallbacks() prometheus.Counter {
	fallbacks := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: "reply_fallbacks_total",
		Help: "Replies that were written from messages instead of directly from their wire form, which is slower.",
	})
	m.registry.MustRegister(fallbacks)
	return fallbacks
}

// RegisterStreams adds a gauge of the open streams. The function must be safe for concurrent use.
// RegisterStreams must be called at most once.
func (m *Metrics) RegisterStreams(open func() int) {
	m.gauge("streams_open", "Streams that are open, of the maximum of --max-streams.", nil, func() int64 { return int64(open()) })
}

// RegisterFailures adds a counter of the requests that were refused because too many requests of
// their address failed. It must be called at most once.
func (m *Metrics) RegisterFailures(refused func() uint64) {
	m.counter("failures_refused_total", "Requests that were refused because too many requests of their client address had failed (--rate-limit-failures).", nil, refused)
}

// RegisterRedis adds the metrics of the Redis that gateways share. The functions must be safe for
// concurrent use. It must be called at most once.
func (m *Metrics) RegisterRedis(up func() bool, uncounted func() uint64) {
	m.gauge("redis_up", "Whether Redis answers (--redis).", nil, func() int64 {
		if up() {
			return 1
		}
		return 0
	})
	m.counter("redis_uncounted_total", "Requests that were not counted against rate limits in Redis, because it did not answer (--redis-unavailable).", nil, uncounted)
}

// Connections is read from the listener of the API. The functions must be safe for concurrent use.
type Connections struct {
	// Open is how many connections are open.
	Open func() int64
	// RefusedByTotal and RefusedByAddress are how many connections were refused because too many
	// were open, in all and from their address.
	RefusedByTotal, RefusedByAddress func() uint64
}

// RegisterConnections adds the metrics of the connections of clients. It must be called at most once.
func (m *Metrics) RegisterConnections(c Connections) {
	m.gauge("connections_open", "Connections of clients that are open, WebSockets included, of the maximum of --max-connections.", nil, c.Open)
	for limit, refused := range map[string]func() uint64{"all": c.RefusedByTotal, "address": c.RefusedByAddress} {
		m.registry.MustRegister(prometheus.NewCounterFunc(
			prometheus.CounterOpts{
				Namespace: namespace, Name: "connections_refused_total", ConstLabels: prometheus.Labels{"limit": limit},
				Help: "Connections of clients that were closed at once, because too many were open in all (--max-connections) or from their address (--max-address-connections).",
			},
			func() float64 { return float64(refused()) }))
	}
}

// RegisterRateLimits adds the metrics of the rate limits. It must be called at most once.
func (m *Metrics) RegisterRateLimits(limits []policy.RateLimit) {
	for _, limit := range limits {
		labels := prometheus.Labels{"limit": limit.Name}
		m.counter("rate_limit_refused_total", "Calls that a rate limit refused, by the limit, as it is named in RateLimit-Policy.", labels, limit.Refused)
	}
}

// RegisterLog adds the metric of the log. It must be called at most once.
func (m *Metrics) RegisterLog(log *LogWriter) {
	m.counter("log_write_failures_total", "Writes of log records that failed, each of one or more records. They are lost.", nil, log.Failures)
}

// Audit is read from the audit log. The functions must be safe for concurrent use.
type Audit struct {
	// Failures is how many writes of lines failed.
	Failures func() uint64
	// Waiting is how many lines could not be written so far.
	Waiting func() int
	// Lost is how many lines could not be written and are in the log instead.
	Lost func() uint64
}

// RegisterAudit adds the metrics of the audit log. It must be called at most once.
func (m *Metrics) RegisterAudit(a Audit) {
	m.counter("audit_write_failures_total", "Writes to the audit log that failed.", nil, a.Failures)
	m.gauge("audit_lines_waiting", "Lines that could not be written to the audit log so far. They are written when it works again.", nil,
		func() int64 { return int64(a.Waiting()) })
	m.counter("audit_lines_lost_total", "Lines that could not be written to the audit log and were written to the log instead, because too many waited.", nil, a.Lost)
}

// CountWrites adds a counter of WRITEs by their outcome, and returns the function that counts them. keyed
// reports whether the request had an Idempotency-Key. It must be called at most once.
func (m *Metrics) CountWrites(outcomes []string) func(outcome string, keyed bool) {
	writes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "writes_total",
		Help: "WRITEs of callers with an API key, by what became of them, and by whether they had an Idempotency-Key.",
	}, []string{"outcome", "keyed"})
	m.registry.MustRegister(writes)
	counters := make(map[string][2]prometheus.Counter)
	for _, outcome := range outcomes {
		counters[outcome] = [2]prometheus.Counter{writes.WithLabelValues(outcome, "false"), writes.WithLabelValues(outcome, "true")}
	}
	return func(outcome string, keyed bool) {
		if pair, ok := counters[outcome]; ok {
			if keyed {
				pair[1].Inc()
			} else {
				pair[0].Inc()
			}
		}
	}
}

// RegisterTraces adds the metric of the trace exporter. exported and failed are numbers of spans. It
// must be called at most once.
func (m *Metrics) RegisterTraces(exported, failed func() uint64) {
	const name, help = "trace_spans_total", "Spans that were sent to the collector of traces, or could not be."
	m.counter(name, help, prometheus.Labels{"result": "exported"}, exported)
	m.counter(name, help, prometheus.Labels{"result": "failed"}, failed)
}

func (m *Metrics) gauge(name, help string, labels prometheus.Labels, read func() int64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels},
		func() float64 { return float64(read()) }))
}

func (m *Metrics) counter(name, help string, labels prometheus.Labels, read func() uint64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels},
		func() float64 { return float64(read()) }))
}
