package server

import (
	"cmp"
	"context"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/audit"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// Handler is the handler of the gateway. Its routes can be replaced while it serves: a request keeps
// the routes that it began with, and one that comes later gets the new ones. What is counted, held in
// memory or rendered is not part of the routes and stays.
type Handler struct {
	options    Options
	limiter    *ratelimit.Limiter
	keys       *policy.Keys
	failures   *policy.Failures
	tickets    *middleware.Tickets
	recorder   *audit.Recorder
	conn       grpc.ClientConnInterface
	docs       *docs
	compressor *middleware.Compressor
	fallbacks  prometheus.Counter

	current atomic.Pointer[generation]
}

// generation is the routes that are made of one set of [Live] options.
type generation struct {
	http.Handler

	policy *policy.Policy
}

// Routes returns the handler of the gateway: all routes with their middleware.
func Routes(o Options) (*Handler, error) {
	h := &Handler{options: o, limiter: cmp.Or(o.Limiter, ratelimit.NewLimiter(nil)), keys: policy.NewKeys(), fallbacks: o.Metrics.Fallbacks()}
	h.failures = policy.NewFailures(o.FailureRate, h.limiter, h.keys)
	// A call passes them from the last to the first.
	measured := telemetry.NewConn(o.Conn, o.Metrics)
	h.tickets = middleware.NewTickets(o.Tickets, func(ctx context.Context, header http.Header) error {
		return h.keys.Vouch(ctx, measured, header)
	})
	conn, err := connection(o, measured)
	if err != nil {
		return nil, err
	}
	h.recorder = audit.NewRecorder(o.Audit, o.Metrics)
	if h.conn, err = audit.NewConn(conn, h.recorder); err != nil {
		return nil, err
	}
	if h.docs, err = newDocs(docsOptions(o), o.Access); err != nil {
		return nil, err
	}
	if h.compressor, err = middleware.NewCompressor(); err != nil {
		return nil, err
	}
	first, err := h.generation(policy.New(h.limits(o.Live)), o.Live)
	if err != nil {
		return nil, err
	}
	h.current.Store(first)
	o.Metrics.RegisterStreams(func() int { return h.current.Load().policy.OpenStreams() })
	o.Metrics.RegisterFailures(h.failures.Refused)
	if o.Admission != nil {
		o.Metrics.RegisterAdmission(o.Admission)
	}
	o.Metrics.RegisterRateLimits(first.policy.RateLimits())
	if o.Budget != nil {
		o.Metrics.RegisterBudget(o.Budget)
	}
	return h, nil
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.current.Load().ServeHTTP(w, r)
}

// Prepare returns a function that replaces the routes by those for other options. Only one may be
// prepared at a time. Open streams and other requests in flight are not affected.
func (h *Handler) Prepare(live Live) (replace func(), err error) {
	next, err := h.generation(h.current.Load().policy.WithLimits(h.limits(live)), live)
	if err != nil {
		return nil, err
	}
	return func() {
		h.current.Store(next)
		h.failures.SetRate(live.FailureRate)
	}, nil
}

func (h *Handler) generation(admission *policy.Policy, live Live) (*generation, error) {
	routes, err := h.routes(admission, live)
	if err != nil {
		return nil, err
	}
	return &generation{routes, admission}, nil
}

func (h *Handler) limits(live Live) policy.Limits {
	return policy.Limits{
		Read: live.ReadRate, Write: live.WriteRate, Limiter: h.limiter, Streams: live.Streams, Timeout: live.RequestTimeout,
		Admission: h.options.Admission, Budget: h.options.Budget, Access: h.options.Access,
	}
}
