// Package server provides the routes of the gateway with their middleware, and a server that runs
// several listeners and shuts them down in order.
package server

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/gateway"
	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/internal/admission"
	"github.com/meshtrade/mesh-gateway/internal/audit"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/docs/ui"
	"github.com/meshtrade/mesh-gateway/internal/health"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/tracing"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	"github.com/meshtrade/mesh-gateway/openapi"
)

// Options configure [Routes] and [AdminRoutes].
type Options struct {
	// Conn is the connection to the Mesh API or to the sandbox.
	Conn grpc.ClientConnInterface
	// Health are the checks of /readyz.
	Health *health.Checks
	// Keeper makes writes with an Idempotency-Key at most once.
	Keeper *idempotency.Keeper
	// Tickets keeps stream tickets.
	Tickets middleware.TicketStore
	// RequireIdempotencyKey makes Idempotency-Key mandatory for writes with an API key.
	RequireIdempotencyKey bool
	// Sandbox is the sandbox that Conn is connected to, or nil for the live API. If it is set, all
	// responses have the header X-Mesh-Environment.
	Sandbox *sandbox.Sandbox
	// SandboxGRPC is the address at which the sandbox is served over gRPC as well, for the
	// documentation, or "".
	SandboxGRPC string
	// OnReset is called before the sandbox is reset. May be nil.
	OnReset func()
	// Version is the version of this build.
	Version string
	// PublicURL is the address of the gateway for clients, used in the documentation, or "" if it
	// is unknown.
	PublicURL string
	// Live can be changed while the gateway serves.
	Live
	// Limiter counts requests against the rates.
	Limiter *ratelimit.Limiter
	// Admission limits calls in an overload. It may be nil.
	Admission *admission.Control
	// Budget is the memory that calls in flight may hold. It may be nil.
	Budget *budget.Budget
	// Access are the operator's rules. The documentation leaves out what they do not allow anybody to
	// call. They can be replaced while the routes are served. It may be nil.
	Access *access.Current
	// Credentials enable local mode: they are added to requests without credentials. May be nil.
	Credentials *credentials.Credentials
	// Stopping is done once /readyz must respond with 503. May be nil.
	Stopping context.Context
	// Drain is done once streams must end. May be nil.
	Drain context.Context
	// Metrics count the requests of [Routes] and are served at /metrics of [AdminRoutes].
	Metrics *telemetry.Metrics
	// Tracer makes the spans of requests and of their calls to the upstream. It is nil if requests are
	// not traced.
	Tracer *tracing.Tracer
	// Audit is the audit log of WRITEs. It is nil if there is none.
	Audit *audit.Log
	// Logger receives the access log and reports of defects.
	Logger *slog.Logger
	// Flight serves the runtime's flight recorder. It is nil if that does not run.
	Flight http.Handler
}

// Live are the options that [Handler.Prepare] changes.
type Live struct {
	// CORSOrigins are the origins whose pages may call the gateway ([middleware.CORS]).
	CORSOrigins []string
	// ReadRate and WriteRate are the rate limits of one API key, and FailureRate that of the failed
	// requests of a client address. The zero rate is unlimited.
	ReadRate, WriteRate, FailureRate ratelimit.Rate
	// Streams is the maximum number of open streams.
	Streams policy.StreamLimits
	// MaxBodyBytes is the maximum size of a request body in bytes.
	MaxBodyBytes int64
	// RequestTimeout is the maximum duration of a unary call.
	RequestTimeout time.Duration
	// TrustedProxies are the proxies whose X-Forwarded-For is trusted.
	TrustedProxies []netip.Prefix
	// LogSuccesses is the part of the requests that succeed that is logged, from 0 to 1.
	LogSuccesses float64
}

// routes returns all routes with their middleware. What they count, hold or render belongs to the
// handler, and outlives them.
func (h *Handler) routes(admission *policy.Policy, live Live) (http.Handler, error) {
	o := h.options
	o.Live = live
	// On the routes that take credentials and on those that do not exist. Health checks and the
	// documentation are for everybody.
	limited := middleware.Failures(h.failures, h.keys)
	environment, headers := "", []string(nil)
	if o.Sandbox != nil {
		environment, headers = "sandbox", []string{wire.SandboxFaultHeader}
	}
	rest, err := gateway.New(h.conn,
		gateway.WithForwardedHeaders(headers...),
		gateway.WithIdempotency(),
		gateway.WithOrigins(o.CORSOrigins...),
		gateway.WithDrain(o.Drain),
		gateway.WithNotFound(notFound("The routes are listed at /docs.")),
		gateway.WithFallback(func(gateway.Method) { h.fallbacks.Inc() }),
		gateway.WithMethodMiddleware(func(m gateway.Method) []func(http.Handler) http.Handler {
			method := contract.ByName(m.Name())
			return []func(http.Handler) http.Handler{
				middleware.Method(method),
				middleware.InFlight(o.Metrics.Method(method)),
				h.tickets.Redeem(method),
				middleware.Admit(admission, policy.RulesOf(method)),
				h.compressor.Reads(method),
			}
		}))
	if err != nil {
		return nil, err
	}
	api := limited(rest)

	r := chi.NewRouter()
	r.Use(middleware.Route)
	r.NotFound(limited(notFound("The routes are listed at /docs.")).ServeHTTP)
	r.MethodNotAllowed(limited(methodNotAllowed(r)).ServeHTTP)

	// A request for a ticket counts as a read too, and requires credentials.
	r.With(limited, middleware.Admit(admission, policy.Rules{Ticket: true})).Post(wire.TicketsPath, h.tickets.Issue)

	if o.Sandbox != nil {
		addSandboxRoutes(r, o.Sandbox, o.OnReset, o.PublicURL)
	}

	get(r, "/", http.RedirectHandler("/docs", http.StatusFound))
	get(r, "/docs", h.docs)
	get(r, "/docs/*", h.docs)
	for _, path := range []string{wire.OpenAPIPath, wire.YAMLPath, wire.SwaggerPath} {
		get(r, path, h.docs)
	}
	get(r, "/healthz", alive())
	get(r, "/readyz", ready(o.Health, o.Stopping))
	get(r, "/version", version(o.Version))

	observers := []func(*middleware.Observation){middleware.AccessLog(o.Logger, o.LogSuccesses), middleware.Count(o.Metrics), middleware.Audit(h.recorder)}
	if o.Tracer != nil {
		observers = append(observers, middleware.EndSpan())
	}
	all := chi.Chain(
		middleware.RequestID(),
		middleware.ClientIP(o.TrustedProxies),
		middleware.Observe(observers...),
	)
	if o.Tracer != nil {
		all = append(all, middleware.Trace(o.Tracer))
	}
	all = append(all,
		middleware.Recover(o.Logger),
		setEnvironment(environment),
		middleware.CORS(o.CORSOrigins),
	)
	if o.Credentials != nil {
		all = append(all, middleware.Local(*o.Credentials))
	}
	all = append(all, middleware.BodyLimit(o.MaxBodyBytes))
	return all.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		// The gateway has a router of its own, so the requests of the API do without chi's.
		if strings.HasPrefix(req.URL.Path, "/v1/") {
			api.ServeHTTP(w, req)
			return
		}
		r.ServeHTTP(w, req)
	}), nil
}

// connection returns the connection that calls are made over, which is upstream in the end. A call is
// admitted before its idempotency key is recorded, and measured without the time that this takes.
func connection(o Options, upstream grpc.ClientConnInterface) (grpc.ClientConnInterface, error) {
	if o.Admission == nil {
		return idempotency.NewConn(upstream, o.Keeper, o.RequireIdempotencyKey)
	}
	conn, err := idempotency.NewConn(o.Admission.Measure(upstream), o.Keeper, o.RequireIdempotencyKey)
	if err != nil {
		return nil, err
	}
	return o.Admission.Limit(conn), nil
}

// docsOptions returns the options of the documentation.
func docsOptions(o Options) ui.Options {
	docs := ui.Options{
		Deployment:  openapi.Deployment{PublicURL: o.PublicURL, Sandbox: o.Sandbox != nil},
		SandboxGRPC: cmp.Or(o.SandboxGRPC, sandbox.DefaultListen),
		ServesGRPC:  o.SandboxGRPC != "",
	}
	if o.Sandbox == nil {
		return docs
	}
	for _, c := range sandbox.Seeded() {
		docs.TestKeys = append(docs.TestKeys, ui.TestKey{Name: c.DisplayName, Description: c.Description, Key: c.APIKey, Group: c.Group})
	}
	return docs
}

// AdminRoutes returns the handler for operators: health checks, the version, metrics and profiles. It
// has no limits and no authentication, so it must have its own private listener.
func AdminRoutes(o Options) http.Handler {
	r := chi.NewRouter()
	r.NotFound(notFound(""))
	r.MethodNotAllowed(methodNotAllowed(r))
	get(r, "/healthz", alive())
	get(r, "/readyz", ready(o.Health, o.Stopping))
	get(r, "/version", version(o.Version))
	get(r, "/metrics", o.Metrics.Handler())
	if o.Flight != nil {
		get(r, "/debug/flight", o.Flight)
	}
	r.HandleFunc("/debug/pprof/*", pprof.Index)
	r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	r.HandleFunc("/debug/pprof/profile", pprof.Profile)
	r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return r
}

// get registers handler for GET and HEAD.
func get(r chi.Router, pattern string, handler http.Handler) {
	r.Method(http.MethodGet, pattern, handler)
	r.Method(http.MethodHead, pattern, handler)
}

// setEnvironment sets X-Mesh-Environment on every response, so that the money of the sandbox is not
// mistaken for real money. It does nothing if name is "".
func setEnvironment(name string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if name == "" {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(wire.EnvironmentHeader, name)
			next.ServeHTTP(w, r)
		})
	}
}
