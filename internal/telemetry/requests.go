package telemetry

import (
	"net/http"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// The labels of requests. Their values are bounded: the RPCs are those of the contract, spelt as in
// the access log, the statuses are those that the gateway responds with ([statusOf]), and the codes
// are the 17 of gRPC, by the names of google/rpc/code.proto. The reasons are those of apierror.
const (
	rpcLabel    = "rpc"
	statusLabel = "status"
	codeLabel   = "code"
	reasonLabel = "reason"

	// otherRPC is the RPC of routes that are not RPCs, such as /docs.
	otherRPC = "other"
	// otherReason is a reason that is not in [apierror.Reasons].
	otherReason = "other"
	// otherStatus is a status that the gateway does not respond with.
	otherStatus = 0
)

// durationBuckets are the upper bounds of the classic histogram in seconds. The gateway itself takes
// a fraction of a millisecond, and the first buckets show whether more than that was spent in it.
// The last is the default of --request-timeout. Above it are streams.
func durationBuckets() []float64 {
	return []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}
}

const (
	// nativeFactor is the growth of the buckets of the native histogram. It makes at most 10 % of
	// error in a percentile.
	nativeFactor = 1.1
	// nativeBuckets and nativeReset bound the memory of a native histogram. If it has more buckets,
	// it starts again, but not more often than once in nativeReset, and is coarser until then.
	nativeBuckets = 160
	nativeReset   = time.Hour
)

// histogram returns the options of a histogram of durations, which is a native and a classic one.
func histogram(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help,
		Buckets:                         durationBuckets(),
		NativeHistogramBucketFactor:     nativeFactor,
		NativeHistogramMaxBucketNumber:  nativeBuckets,
		NativeHistogramMinResetDuration: nativeReset,
	}
}

// exemplarInterval is the shortest time between two exemplars of a bucket. A scrape sees the last of a
// bucket only, and making one takes longer than the rest of an observation.
const exemplarInterval = time.Second

// durations is a histogram that gives its buckets exemplars.
type durations struct {
	prometheus.Observer
	prometheus.ExemplarObserver

	// bounds are those of the classic buckets, and next is when each may have another exemplar, in
	// nanoseconds of Unix time.
	bounds []float64
	next   []atomic.Int64
}

func newDurations(histogram prometheus.Observer) *durations {
	bounds := durationBuckets()
	return &durations{
		Observer: histogram, ExemplarObserver: histogram.(prometheus.ExemplarObserver), // as every histogram is
		bounds: bounds, next: make([]atomic.Int64, len(bounds)+1), // with the one above all bounds
	}
}

// observe adds a duration. traceID is that of its trace, or "" if it is not recorded.
func (d *durations) observe(took time.Duration, traceID string) {
	seconds := took.Seconds()
	if traceID != "" && d.wants(seconds) {
		d.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": traceID})
		return
	}
	d.Observe(seconds)
}

// wants reports whether the bucket of a duration takes an exemplar.
func (d *durations) wants(seconds float64) bool {
	next, now := &d.next[sort.SearchFloat64s(d.bounds, seconds)], time.Now().UnixNano()
	at := next.Load()
	return now >= at && next.CompareAndSwap(at, now+int64(exemplarInterval))
}

// requests are the metrics of all requests.
type requests struct {
	total                       *prometheus.CounterVec
	duration                    *prometheus.HistogramVec
	inFlight                    *prometheus.GaugeVec
	requestBytes, responseBytes *prometheus.CounterVec
	reasons                     reasons
}

// reasons count the errors by their reason. All are exported before the first.
type reasons map[apierror.Reason]prometheus.Counter

func newReasons(registry *prometheus.Registry) reasons {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "request_errors_total",
		Help: "Requests that ended with an error of the gateway, by its reason. A status of Mesh has no reason, and is in requests_total only.",
	}, []string{reasonLabel})
	registry.MustRegister(total)
	counters := make(reasons)
	for _, reason := range apierror.Reasons() {
		counters[reason] = total.WithLabelValues(string(reason))
	}
	counters[otherReason] = total.WithLabelValues(otherReason)
	return counters
}

func (r reasons) of(reason apierror.Reason) prometheus.Counter {
	if counter, ok := r[reason]; ok {
		return counter
	}
	return r[otherReason]
}

func newRequests(registry *prometheus.Registry) *requests {
	byRPC := []string{rpcLabel}
	r := &requests{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "requests_total",
			Help: "Requests that have ended, by RPC, HTTP status and gRPC code. The code of a stream is that of its end, its status that of its beginning.",
		}, []string{rpcLabel, statusLabel, codeLabel}),
		duration: prometheus.NewHistogramVec(histogram("request_duration_seconds",
			"Time from the header of a request to the end of its response, by RPC. That of a stream is how long it was open."), byRPC),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "requests_in_flight",
			Help: "Requests that are being served, by RPC, open streams included.",
		}, byRPC),
		requestBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "request_bytes_total",
			Help: "Bytes of request bodies, by RPC, as the Content-Length of the requests says. Requests without one do not count.",
		}, byRPC),
		responseBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "response_bytes_total",
			Help: "Bytes of response bodies that were written, by RPC, as they were sent: after compression.",
		}, byRPC),
	}
	r.reasons = newReasons(registry)
	registry.MustRegister(r.total, r.duration, r.inFlight, r.requestBytes, r.responseBytes)
	return r
}

// of returns the metrics of an RPC. It creates them, so that they are exported as zero before the
// first request and rates can be computed from the beginning.
func (r *requests) of(rpc string) *Method {
	m := &Method{
		rpc:           rpc,
		total:         r.total,
		duration:      newDurations(r.duration.WithLabelValues(rpc)),
		inFlight:      r.inFlight.WithLabelValues(rpc),
		requestBytes:  r.requestBytes.WithLabelValues(rpc),
		responseBytes: r.responseBytes.WithLabelValues(rpc),
		reasons:       r.reasons,
	}
	m.counters.Store(new([]outcomeCounter))
	m.counter(http.StatusOK, codes.OK)
	return m
}

// Method counts the requests of an RPC. It takes no lock and allocates nothing, except for the first
// request of each status and code.
type Method struct {
	rpc                         string
	total                       *prometheus.CounterVec
	duration                    *durations
	inFlight                    prometheus.Gauge
	requestBytes, responseBytes prometheus.Counter
	reasons                     reasons

	// counters are the counters of the outcomes that have occurred. An RPC has few of them, and
	// most of its requests have the first, so a list is faster than a map. It is replaced by a
	// longer one under the lock and never changed.
	counters atomic.Pointer[[]outcomeCounter]
	mu       sync.Mutex
}

type outcomeCounter struct {
	status int
	code   codes.Code
	total  prometheus.Counter
}

// Method returns the metrics of a method of the contract, or those of all routes that are not RPCs
// if method is nil.
func (m *Metrics) Method(method *contract.Method) *Method {
	if found, ok := m.methods[method]; ok {
		return found
	}
	return m.other
}

// Outcome is how a request ended.
type Outcome struct {
	// Status is the HTTP status, or 499 if the client closed the request before there was one.
	Status int
	// Code is the gRPC code of the error, or OK. A stream with status 200 can end with an error.
	Code codes.Code
	// Duration is the time from the header of the request to the end of the response.
	Duration time.Duration
	// RequestBytes and ResponseBytes are the sizes of the bodies in bytes. That of a request may be
	// negative if it is unknown.
	RequestBytes, ResponseBytes int64
	// Reason is the reason of the error, "" if there is none.
	Reason apierror.Reason
	// TraceID is the id of the trace if it is sampled, and otherwise "".
	TraceID string
}

// Begin counts a request that is being served. End must be called once it has ended.
func (m *Method) Begin() { m.inFlight.Inc() }

// End counts a request that has ended.
func (m *Method) End(o Outcome) {
	m.inFlight.Dec()
	m.counter(statusOf(o.Status), codeOf(o.Code)).Inc()
	if o.Reason != "" {
		m.reasons.of(o.Reason).Inc()
	}
	m.duration.observe(o.Duration, o.TraceID)
	m.requestBytes.Add(float64(max(o.RequestBytes, 0)))
	m.responseBytes.Add(float64(max(o.ResponseBytes, 0)))
}

// counter returns the counter of the outcome. status and code must be of the bounded sets.
func (m *Method) counter(status int, c codes.Code) prometheus.Counter {
	find := func() prometheus.Counter {
		for _, counter := range *m.counters.Load() {
			if counter.status == status && counter.code == c {
				return counter.total
			}
		}
		return nil
	}
	if found := find(); found != nil {
		return found
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if found := find(); found != nil {
		return found
	}
	name := "other"
	if status != otherStatus {
		name = strconv.Itoa(status)
	}
	total := m.total.WithLabelValues(m.rpc, name, code.Code(c).String())
	known := *m.counters.Load()
	longer := append(known[:len(known):len(known)], outcomeCounter{status, c, total})
	m.counters.Store(&longer)
	return total
}

// statusOf returns the status if the gateway responds with it, and otherStatus if not.
func statusOf(status int) int {
	switch status {
	case http.StatusSwitchingProtocols, http.StatusOK, http.StatusNoContent, http.StatusPartialContent,
		http.StatusFound, http.StatusNotModified,
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusRequestTimeout, http.StatusConflict,
		http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusRequestedRangeNotSatisfiable, http.StatusMisdirectedRequest, http.StatusUnprocessableEntity,
		http.StatusTooManyRequests,
		apierror.StatusClientClosedRequest,
		http.StatusInternalServerError, http.StatusNotImplemented, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return status
	}
	return otherStatus
}

// codeOf returns the code if it is one of gRPC's, and Unknown if not: the upstream can send any
// number.
func codeOf(c codes.Code) codes.Code {
	if c > codes.Unauthenticated {
		return codes.Unknown
	}
	return c
}
