package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/tracing"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Conn is a connection to the upstream that measures its calls. It counts them in the metrics, adds
// their duration to the [Call], and makes a client span for each if requests are traced.
//
// A call that is repeated by the connection below is one call. otelgrpc would do some of this, but it
// has its own metrics and makes a span event of each message, and its spans end with the errors of
// grpc-go and not with those that say whether a call was sent.
type Conn struct {
	conn    grpc.ClientConnInterface
	methods map[string]*upstreamMethod
}

// upstreamMethod is what the calls of a method need.
type upstreamMethod struct {
	rpc      string
	duration prometheus.Observer
	total    *prometheus.CounterVec
	outcomes [codes.Unauthenticated + 1]outcome
}

// outcome is what the calls of a method need that end with the same code. It is made for the first of
// them, so that only counters of codes that have occurred are exported.
type outcome struct {
	once    sync.Once
	name    string // of the code
	counter prometheus.Counter
	span    tracing.Description
}

// NewConn returns a connection that measures the calls over conn. It must be called at most once for
// the metrics.
func NewConn(conn grpc.ClientConnInterface, metrics *Metrics) *Conn {
	c := &Conn{conn: conn, methods: make(map[string]*upstreamMethod)}
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "upstream_calls_total",
		Help: "Calls to Mesh that have ended, by RPC and gRPC code, streams included. A call that is repeated counts once, with its last code.",
	}, []string{rpcLabel, codeLabel})
	duration := prometheus.NewHistogramVec(histogram("upstream_call_duration_seconds",
		"Time that calls to Mesh took, by RPC, with the attempts of a call that is repeated. Streams are not in it."), []string{rpcLabel})
	metrics.registry.MustRegister(total, duration)
	for _, method := range contract.Methods() {
		m := &upstreamMethod{rpc: method.Name(), total: total}
		if !method.Streams() {
			m.duration = duration.WithLabelValues(method.Name())
		}
		m.outcome(codes.OK) // exported as zero before the first call
		c.methods[method.Name()] = m
	}
	return c
}

// Invoke implements [grpc.ClientConnInterface].
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	m := c.methods[method]
	if m == nil { // not of the contract
		return c.conn.Invoke(ctx, method, args, reply, opts...)
	}
	call := CallOf(ctx)
	calling, span := start(ctx, call)
	begin := time.Now()
	err := c.conn.Invoke(calling, method, args, reply, opts...)
	took := time.Since(begin)
	m.end(&span, begin, took, err)
	m.duration.Observe(took.Seconds())
	if call != nil {
		call.Called(took, sent(err))
	}
	return err
}

// NewStream implements [grpc.ClientConnInterface].
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	m := c.methods[method]
	if m == nil {
		return c.conn.NewStream(ctx, desc, method, opts...)
	}
	call := CallOf(ctx)
	calling, span := start(ctx, call)
	begin := time.Now()
	var once sync.Once
	finish := func(err error) {
		once.Do(func() { m.end(&span, begin, time.Since(begin), err) })
	}
	// grpc-go calls it however the stream ends, unless it could not be opened at all.
	stream, err := c.conn.NewStream(calling, desc, method, append(opts[:len(opts):len(opts)], grpc.OnFinish(finish))...)
	if err != nil {
		finish(err)
	}
	if call != nil {
		call.Called(time.Since(begin), sent(err))
	}
	return stream, err
}

// start begins the span of a call and propagates its span context in the metadata, which already has that
// of the first call of a request.
func start(ctx context.Context, call *Call) (context.Context, tracing.Span) {
	if call == nil {
		return ctx, tracing.Span{}
	}
	span, first := call.Span.StartCall()
	if first {
		return ctx, span
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	md.Set(wire.TraceparentHeader, tracing.Traceparent(span.SpanContext()))
	return metadata.NewOutgoingContext(ctx, md), span
}

// end counts a call, and ends its span.
func (m *upstreamMethod) end(span *tracing.Span, begin time.Time, took time.Duration, err error) {
	c := codeOf(grpcCode(err))
	ended := m.outcome(c)
	ended.counter.Inc()
	span.End(tracing.Ended{Description: ended.span, Begin: begin, Duration: took, Failed: c != codes.OK, Message: ended.name})
}

// outcome returns what a call needs that ends with the code.
func (m *upstreamMethod) outcome(c codes.Code) *outcome {
	o := &m.outcomes[c]
	o.once.Do(func() {
		o.name = code.Code(c).String()
		o.counter = m.total.WithLabelValues(m.rpc, o.name)
		name := strings.TrimPrefix(m.rpc, "/")
		o.span = tracing.Describe(name, attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", name),
			attribute.String("rpc.response.status_code", o.name))
	})
	return o
}

// grpcCode returns the code of a failed call as the upstream or grpc-go gave it.
func grpcCode(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return status.Code(err)
}

// sent reports whether the upstream may have received a call that ended with the error.
func sent(err error) bool {
	own, ofGateway := errors.AsType[*apierror.Error](err)
	return !ofGateway || own.Sent()
}
