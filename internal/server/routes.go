// Package server puts the gateway on the network: the tree of routes with its
// middleware, the listeners, and their end.
package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"github.com/go-chi/chi/v5"
	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/gateway"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/docs/ui"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	"github.com/meshtrade/mesh-gateway/openapi"
)

// Options is what the routes need to know.
type Options struct {
	// Conn is the Mesh that is fronted: the live one or the sandbox.
	Conn *grpc.ClientConn
	// Sandbox is the sandbox behind Conn, nil where it is a live Mesh. That is
	// told in X-Mesh-Environment on every answer.
	Sandbox *sandbox.Sandbox
	// Version is that of this build.
	Version string
	// PublicURL is what clients reach the gateway by, for the documentation; ""
	// where that is not known.
	PublicURL string
	// CORSOrigins are the origins whose pages may call; none is the default.
	CORSOrigins []string
	// ReadRate and WriteRate are the budgets of one API key.
	ReadRate, WriteRate policy.Rate
	// Streams is how many streams may be open at a time.
	Streams policy.StreamLimits
	// MaxBodyBytes is the largest request body taken.
	MaxBodyBytes int64
	// RequestTimeout is the longest a unary call may take.
	RequestTimeout time.Duration
	// TrustedProxies are those whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Credentials, in local mode, are added to requests that carry none.
	Credentials *credentials.Credentials
	// Stopping is done once /readyz must answer 503; nil is never.
	Stopping context.Context
	// Drain is done once streams must end; nil is never.
	Drain context.Context
	// Logger takes the access log and reports of defects.
	Logger *slog.Logger
}

// Routes returns the one tree of routes. It reads from the outside in, as a
// request passes.
func Routes(o Options) (http.Handler, error) {
	admission, err := policy.New(policy.Limits{Read: o.ReadRate, Write: o.WriteRate, Streams: o.Streams, Timeout: o.RequestTimeout})
	if err != nil {
		return nil, err
	}
	environment, headers := "", []string(nil)
	if o.Sandbox != nil {
		environment, headers = "sandbox", []string{wire.SandboxFaultHeader}
	}
	tickets := middleware.NewTickets(middleware.NewMemoryTickets())
	docs, err := ui.New(documented(o))
	if err != nil {
		return nil, err
	}
	compressor, err := middleware.NewCompressor()
	if err != nil {
		return nil, err
	}
	api, err := gateway.New(o.Conn, gateway.WithForwardedHeaders(headers...), gateway.WithDrain(o.Drain), gateway.WithNotFound(notFound("The routes are listed at /docs.")), gateway.WithOrigins(o.CORSOrigins...), gateway.WithMethodMiddleware(func(m gateway.Method) []func(http.Handler) http.Handler {
		method := contract.ByName(m.Name())
		return []func(http.Handler) http.Handler{
			middleware.LogMethod(method),
			tickets.Redeem(method),
			middleware.Admit(admission, policy.RulesOf(method)),
			compressor.Reads(method),
		}
	}))
	if err != nil {
		return nil, err
	}

	r := chi.NewRouter()
	r.Use(
		middleware.RequestID(),
		middleware.ClientIP(o.TrustedProxies),
		middleware.AccessLog(o.Logger),
		middleware.Recover(o.Logger),
		tellEnvironment(environment),
		middleware.CORS(o.CORSOrigins),
	)
	if o.Credentials != nil {
		r.Use(middleware.Local(*o.Credentials))
	}
	r.Use(middleware.BodyLimit(o.MaxBodyBytes))
	r.NotFound(notFound("The routes are listed at /docs."))
	r.MethodNotAllowed(methodNotAllowed(r))

	r.Handle("/v1/*", api)
	// A ticket is asked for as a read is that needs credentials.
	r.With(middleware.Admit(admission, policy.Rules{})).Post(wire.TicketsPath, tickets.Issue)

	if o.Sandbox != nil {
		sandboxRoutes(r, o.Sandbox)
	}

	get(r, "/", http.RedirectHandler("/docs", http.StatusFound))
	get(r, "/docs", docs)
	get(r, "/docs/*", docs)
	for path, spec := range docs.Specs() {
		get(r, path, spec)
	}
	get(r, "/healthz", alive())
	get(r, "/readyz", ready(o.Conn, o.Stopping))
	get(r, "/version", version(o.Version))
	return r, nil
}

// documented is what the documentation is of.
func documented(o Options) ui.Options {
	docs := ui.Options{Deployment: openapi.Deployment{PublicURL: o.PublicURL, Sandbox: o.Sandbox != nil}}
	if o.Sandbox == nil {
		return docs
	}
	for _, c := range sandbox.Seeded() {
		docs.TestKeys = append(docs.TestKeys, ui.TestKey{Name: c.DisplayName, Description: c.Description, Key: c.APIKey, Group: c.Group})
	}
	return docs
}

// AdminRoutes returns what operators see, on a listener of its own: it knows
// no limits and no callers.
func AdminRoutes(o Options) http.Handler {
	r := chi.NewRouter()
	r.NotFound(notFound(""))
	r.MethodNotAllowed(methodNotAllowed(r))
	get(r, "/healthz", alive())
	get(r, "/readyz", ready(o.Conn, o.Stopping))
	get(r, "/version", version(o.Version))
	r.HandleFunc("/debug/pprof/*", pprof.Index)
	r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	r.HandleFunc("/debug/pprof/profile", pprof.Profile)
	r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return r
}

// get registers GET and HEAD.
func get(r chi.Router, pattern string, handler http.Handler) {
	r.Method(http.MethodGet, pattern, handler)
	r.Method(http.MethodHead, pattern, handler)
}

// tellEnvironment tells on every answer which Mesh gave it, so that play money is
// never taken for real.
func tellEnvironment(name string) func(http.Handler) http.Handler {
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
