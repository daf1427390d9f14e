// Package gateway turns a connection to the Mesh gRPC API into an HTTP
// handler that speaks JSON. It knows nothing of flags, listeners or files, so
// another program can embed it:
//
//	conn, err := grpc.NewClient(target, …)
//	handler, err := gateway.New(conn)
//	http.ListenAndServe("localhost:8080", handler)
//
// A request passes, in this order:
//
//  1. the router, which answers 404 and 405;
//  2. the middleware of its method, if any was given ([WithMethodMiddleware]);
//  3. negotiate.go: 406 and 415;
//  4. inspect.go: the query and the JSON body against the request's descriptor,
//     and partial.go: the fields of the answer that are asked for;
//  5. the generated handler, which builds the message;
//  6. edge.go: the validation rules of the contract, then the upstream call
//     with the metadata of headers.go and no other.
package gateway

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/proto"
)

// Method is an RPC and what the contract says about it.
type Method = contract.Method

// Option sets how the handler is built.
type Option func(*options)

type options struct {
	middleware   func(*Method) []func(http.Handler) http.Handler
	headers      []string
	heartbeat    time.Duration
	writeTimeout time.Duration
	origins      []string
	// drain is done when streams are to end; nil is never.
	drain context.Context
}

// WithMethodMiddleware puts middleware in front of each method, chosen by what
// the contract says about it: access checks, limits. The first is the
// outermost. A request reaches it only if its route exists.
func WithMethodMiddleware(choose func(*Method) []func(http.Handler) http.Handler) Option {
	return func(o *options) { o.middleware = choose }
}

// WithForwardedHeaders adds to the few request headers that the upstream is
// sent as metadata.
func WithForwardedHeaders(names ...string) Option {
	return func(o *options) { o.headers = append(o.headers, names...) }
}

// WithHeartbeat sets how often a silent stream of events shows that it lives; 15
// seconds without it.
func WithHeartbeat(interval time.Duration) Option {
	return func(o *options) { o.heartbeat = interval }
}

// WithWriteTimeout sets how long the reader of a stream may hold up one write
// before it is dropped; 30 seconds without it.
func WithWriteTimeout(limit time.Duration) Option {
	return func(o *options) { o.writeTimeout = limit }
}

// WithOrigins lists the origins whose pages may open WebSockets, beside the
// gateway's own.
func WithOrigins(origins ...string) Option {
	return func(o *options) { o.origins = origins }
}

// WithDrain ends all streams once ctx is done, each with an error that tells its
// client to connect again.
func WithDrain(ctx context.Context) Option {
	return func(o *options) { o.drain = ctx }
}

// New returns the handler of every route of the contract, calling conn.
//
// The handlers are registered as clients of conn. Registering servers
// in-process instead would lose streams and interceptors.
func New(conn grpc.ClientConnInterface, opts ...Option) (http.Handler, error) {
	o := options{
		middleware:   func(*Method) []func(http.Handler) http.Handler { return nil },
		heartbeat:    heartbeat,
		writeTimeout: writeTimeout,
	}
	for _, opt := range opts {
		opt(&o)
	}
	methods := contract.Methods()
	forwarded := forwardedHeaders(o.headers)
	edge, err := newEdge(conn, methods, forwarded)
	if err != nil {
		return nil, err
	}

	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler{}),
		runtime.WithIncomingHeaderMatcher(forwarded.match),
		runtime.WithOutgoingHeaderMatcher(noHeader),
		runtime.WithOutgoingTrailerMatcher(noHeader),
		runtime.WithErrorHandler(writeError),
		runtime.WithStreamErrorHandler(streamStatus),
		runtime.WithRoutingErrorHandler(routingError),
		runtime.WithDisablePathLengthFallback(), // a form POST is not a GET
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisableChunkedEncoding(), // net/http decides
		runtime.WithWriteContentLength(),
		// A segment is decoded once and whole, save %2F, which is no separator.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptSlash),
	)
	for _, service := range proto.Services() {
		if err := service.RegisterHandlers(context.Background(), mux, edge); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}

	router := chi.NewRouter()
	router.NotFound(NotFound)
	router.MethodNotAllowed(MethodNotAllowed(router))
	for _, method := range methods {
		chain := router.With(o.middleware(method)...)
		for _, binding := range method.Bindings {
			handler := download(method, binding, negotiate(method, inspect(method, binding, o.stream(method, toMux(mux, binding.Verb)))))
			// The expression keeps "…/{id}" from swallowing "…/{id}:verb".
			pattern := binding.Pattern("{id:[^/:]+}")
			chain.Method(binding.Verb, pattern, handler)
			if binding.Verb == http.MethodGet {
				chain.Method(http.MethodHead, pattern, handler)
			}
		}
	}
	return router, nil
}

// toMux hands the request to the generated handlers. HEAD is GET without its
// body (RFC 9110, section 9.3.2), which net/http leaves out.
func toMux(mux *runtime.ServeMux, verb string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.Method = verb
		// The runtime takes a deadline from this header; ours come from the
		// server alone.
		r.Header.Del("Grpc-Timeout")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(partial(r.Context(), w), r)
	})
}
