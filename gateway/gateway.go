// Package gateway serves the Mesh gRPC API as REST.
//
// [New] takes a connection to the API and returns an [http.Handler], which another
// program can embed:
//
//	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(credentials.NewTLS(nil)))
//	handler, err := gateway.New(conn)
//	err = http.ListenAndServe("localhost:8080", handler)
//
// # Requests
//
// A resource's name is its URL: GET /v1/groups/X answers with the resource "groups/X".
// JSON is canonical ProtoJSON. Unknown fields, parameters and enum values are refused with
// status 400, and so is a request that breaks a validation rule of the contract; the
// refusal lists every fault. Nothing invalid reaches the upstream.
//
// The handler forwards X-Api-Key and X-Group as metadata, and checks neither: the
// upstream does. Middleware for each method ([WithMethodMiddleware]) is the place for
// checks and limits of your own.
//
// # Answers
//
// Errors are google.rpc.Status as JSON, with the HTTP status that belongs to the code
// (google/rpc/code.proto). [WriteError] writes errors of middleware in the same shape.
// Streams are NDJSON, server-sent events or WebSockets, as the client asks. They end with
// an error of their own when the context of [WithDrain] is done.
//
// # Implementation
//
// A request passes these files, in this order:
//
//  1. gateway.go finds the route and answers 404 and 405;
//  2. the middleware of the method runs, if there is any ([WithMethodMiddleware]);
//  3. route.go negotiates the format of the answer (negotiate.go: 406 and 415) and
//     reads the query (query.go) and the fields to answer with (mask.go);
//  4. the generated handler has its message decoded by body.go, which refuses what
//     does not fit; explain.go lists everything that is wrong with it;
//  5. conn.go checks the message against the rules of the contract and calls the
//     upstream with the metadata of headers.go and no other;
//  6. codec.go keeps the reply in its wire form, and reply.go writes it as JSON, or
//     stream.go the messages of a stream in the framing of lines.go, events.go or
//     websocket.go;
//  7. errors.go writes what went wrong, wherever it did.
package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	"github.com/meshtrade/mesh-gateway/internal/wirejson"
	"github.com/meshtrade/mesh-gateway/proto"
)

// Option sets how the handler is built.
type Option func(*options)

type options struct {
	middleware   func(Method) []func(http.Handler) http.Handler
	notFound     http.Handler
	headers      []string
	keepAlive    time.Duration
	writeTimeout time.Duration
	origins      []string
	fallback     func(Method)
	idempotency  bool
	// drain is done when streams are to end; nil is never.
	drain context.Context
}

// WithMethodMiddleware puts middleware in front of each method, chosen by what the
// contract says about the method. The first is the outermost. Only requests whose
// route exists reach it; they carry the route in [http.Request.Pattern], such as
// "GET /v1/{name=groups/*}".
func WithMethodMiddleware(choose func(Method) []func(http.Handler) http.Handler) Option {
	return func(o *options) { o.middleware = choose }
}

// WithNotFound sets what answers a path without a route. By default that is an
// error with status 404.
func WithNotFound(handler http.Handler) Option {
	return func(o *options) { o.notFound = handler }
}

// WithForwardedHeaders adds to the request headers that are sent to the upstream as
// metadata: X-Api-Key, X-Group, X-Request-Id, Traceparent and Tracestate.
func WithForwardedHeaders(names ...string) Option {
	return func(o *options) { o.headers = append(o.headers, names...) }
}

// WithIdempotency sends the Idempotency-Key of a WRITE to the upstream as metadata, and
// passes Idempotent-Replayed on from the metadata of the reply. The connection must keep
// the promise that clients connect with the key: that a write is made at most once.
func WithIdempotency() Option {
	return func(o *options) { o.idempotency = true }
}

// WithKeepAlive sets the interval between keep-alives on an idle stream, which is
// also how long a stream waits for its first message before it answers 200. The
// default is 15 seconds, since proxies cut connections that are idle for half a
// minute.
func WithKeepAlive(interval time.Duration) Option {
	return func(o *options) { o.keepAlive = interval }
}

// WithWriteTimeout sets how long the reader of a stream may take to read 64 KiB, or the
// rest of a message, before the stream is ended. The default is 30 seconds.
func WithWriteTimeout(limit time.Duration) Option {
	return func(o *options) { o.writeTimeout = limit }
}

// WithOrigins lists the origins whose pages may open WebSockets, besides the
// gateway's own.
func WithOrigins(origins ...string) Option {
	return func(o *options) { o.origins = origins }
}

// WithFallback sets a function that is called for each reply, and each message of a
// stream, that is written from a message and not directly from its wire form. That is
// slower. It happens with a connection that ignores the codec of a call.
func WithFallback(observe func(Method)) Option {
	return func(o *options) { o.fallback = observe }
}

// WithDrain ends all streams once ctx is done, each with an error that tells its
// client to connect again.
func WithDrain(ctx context.Context) Option {
	return func(o *options) { o.drain = ctx }
}

// New returns the handler of every route of the contract, calling conn.
func New(conn grpc.ClientConnInterface, opts ...Option) (http.Handler, error) {
	o := options{
		middleware:   func(Method) []func(http.Handler) http.Handler { return nil },
		notFound:     http.HandlerFunc(notFound),
		fallback:     func(Method) {},
		keepAlive:    15 * time.Second,
		writeTimeout: 30 * time.Second,
	}
	for _, opt := range opts {
		opt(&o)
	}
	rules, err := compiledRules()
	if err != nil {
		return nil, err
	}
	g := &gateway{notFound: o.notFound, routes: make(map[*contract.Binding]http.Handler)}
	codecs, err := newCodecs()
	if err != nil {
		return nil, err
	}
	generated, err := generatedHandlers(&validatingConn{conn: conn, rules: rules, keepAlive: o.keepAlive})
	if err != nil {
		return nil, err
	}
	forwarded, forwardedOfWrites := forwardedHeaders(o.headers), forwardedHeaders(o.headers)
	if o.idempotency {
		forwardedOfWrites = forwardedHeaders(append(slices.Clone(o.headers), wire.IdempotencyKeyHeader))
	}
	var types wirejson.Types
	for binding, handler := range generated {
		headers := forwarded
		if binding.Method.Write {
			headers = forwardedOfWrites
		}
		var chain http.Handler = newRoute(binding, handler, &o, rules, codecs, headers, &types)
		middleware := o.middleware(Method{binding.Method})
		for i := len(middleware) - 1; i >= 0; i-- {
			chain = middleware[i](chain)
		}
		g.routes[binding] = chain
	}
	return g, nil
}

// gateway is the router. It replaces that of the runtime, whose matching is linear.
type gateway struct {
	notFound http.Handler
	routes   map[*contract.Binding]http.Handler
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, _ := matchedPath(r.URL)
	found, _ := contract.Match(path)
	if found == nil {
		g.notFound.ServeHTTP(w, r)
		return
	}
	binding := found.Binding(r.Method)
	if binding == nil {
		methodNotAllowed(w, r, found.Allow())
		return
	}
	r.Pattern = binding.Route()
	g.routes[binding].ServeHTTP(w, r)
}

// matchedPath returns the path that is matched with the routes. It is escaped if the client
// escaped more of it than it had to.
func matchedPath(u *url.URL) (path string, escaped bool) {
	if u.RawPath != "" {
		return u.RawPath, true
	}
	return u.Path, false
}

// unescape decodes a segment once. %2F stays as it is, since a slash would make two
// segments of it.
func unescape(segment string) string {
	kept := strings.NewReplacer("%2F", "%252F", "%2f", "%252f").Replace(segment)
	if unescaped, err := url.PathUnescape(kept); err == nil {
		return unescaped
	}
	return segment // not reached: net/http refuses a malformed path
}

// generatedHandlers registers the generated handlers as clients of conn and returns
// them by their route. The runtime hands each to the middleware as it is registered,
// in the order of the contract. (Registering servers in-process instead would lose
// streams and interceptors.)
func generatedHandlers(conn grpc.ClientConnInterface) (map[*contract.Binding]runtime.HandlerFunc, error) {
	var registered []runtime.HandlerFunc
	mux := runtime.NewServeMux(
		runtime.WithMiddlewares(func(next runtime.HandlerFunc) runtime.HandlerFunc {
			registered = append(registered, next)
			return next
		}),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, codec{}),
		runtime.WithForwardResponseOption(forward),
		runtime.WithForwardResponseRewriter(forwarded),
		// The metadata of calls is made by headers.go, and none comes back.
		runtime.WithIncomingHeaderMatcher(noHeader),
		runtime.WithOutgoingHeaderMatcher(noHeader),
		runtime.WithOutgoingTrailerMatcher(noHeader),
		runtime.WithErrorHandler(writeError),
		runtime.WithStreamErrorHandler(streamStatus),
		runtime.WithDisableChunkedEncoding(), // net/http decides
	)
	handlers := make(map[*contract.Binding]runtime.HandlerFunc)
	for _, service := range proto.Services() {
		registered = nil
		if err := service.RegisterHandlers(context.Background(), mux, conn); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
		var bindings []*contract.Binding
		for _, method := range contract.Methods() {
			if method.Descriptor.Parent() == service.Descriptor {
				bindings = append(bindings, method.Bindings...)
			}
		}
		if len(bindings) != len(registered) {
			return nil, fmt.Errorf("gateway: %s has %d routes and %d generated handlers", service.Descriptor.FullName(), len(bindings), len(registered))
		}
		for i, binding := range bindings {
			handlers[binding] = registered[i]
		}
	}
	return handlers, nil
}
