package upstream

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// call follows one call over all of its attempts.
type call struct {
	// sent is set once an attempt was given to a connection. It does not say
	// that the upstream received it, only that this cannot be ruled out, and it
	// stays set whatever later attempts come to.
	sent atomic.Bool
	last atomic.Pointer[attempt]
}

// attempt holds what came back in one attempt; the status of a call is the
// status of its last one.
type attempt struct {
	call            *call
	header, trailer atomic.Bool
}

type (
	callKey    struct{}
	attemptKey struct{}
)

// faults tells the statuses that the upstream sent from those that grpc-go
// made up when there was no answer. It is the connection's interceptors, which
// translate, and its stats handler, which sees what went over the wire.
type faults struct{}

// TagRPC implements [stats.Handler]; it is called for each attempt.
func (*faults) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return ctx
	}
	a := &attempt{call: c}
	c.last.Store(a)
	return context.WithValue(ctx, attemptKey{}, a)
}

// HandleRPC implements [stats.Handler].
func (*faults) HandleRPC(ctx context.Context, event stats.RPCStats) {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return
	}
	switch event.(type) {
	case *stats.OutHeader, *stats.OutPayload:
		a.call.sent.Store(true)
	case *stats.InHeader:
		a.header.Store(true)
	case *stats.InTrailer:
		a.trailer.Store(true)
	}
}

// TagConn implements [stats.Handler].
func (*faults) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements [stats.Handler].
func (*faults) HandleConn(context.Context, stats.ConnStats) {}

func (f *faults) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	c := new(call)
	ctx = context.WithValue(ctx, callKey{}, c)
	return f.translate(ctx, method, c, invoke(ctx, method, req, reply, conn, opts...))
}

func (f *faults) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c := new(call)
	ctx = context.WithValue(ctx, callKey{}, c)
	stream, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		return nil, f.translate(ctx, method, c, err)
	}
	return &watchedStream{ClientStream: stream, translate: func(err error) error {
		// The caller's context and not the stream's, which ends with the stream.
		return f.translate(ctx, method, c, err)
	}}, nil
}

// watchedStream translates the errors of a stream.
type watchedStream struct {
	grpc.ClientStream
	translate func(error) error
}

func (s *watchedStream) Header() (metadata.MD, error) {
	header, err := s.ClientStream.Header()
	return header, s.translate(err)
}

func (s *watchedStream) CloseSend() error { return s.translate(s.ClientStream.CloseSend()) }
func (s *watchedStream) SendMsg(message any) error {
	return s.translate(s.ClientStream.SendMsg(message))
}
func (s *watchedStream) RecvMsg(message any) error {
	return s.translate(s.ClientStream.RecvMsg(message))
}

// translate returns what the client may learn about a failed call.
func (f *faults) translate(ctx context.Context, method string, c *call, err error) error {
	// EOF is the regular end of a stream.
	if err == nil || err == io.EOF { //nolint:errorlint // grpc-go returns io.EOF itself
		return err
	}
	st := statusOf(err)
	if sentByUpstream(ctx, c, st) {
		return st.Err()
	}
	if _, own := errors.AsType[*apierror.Error](err); own {
		return err
	}
	// The cause names addresses, so it is for operators only.
	return f.explain(ctx, readOnly(method), c, st.Code()).WithCause(err)
}

// readOnly reports whether a method is a READ of the contract.
func readOnly(method string) bool {
	m := contract.ByName(method)
	return m != nil && !m.Write
}

// statusOf finds the status as it was received. When retries are exhausted
// grpc-go wraps it, and status.FromError would put the wrapping's text into
// the message.
func statusOf(err error) *status.Status {
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) {
		if st := carrier.GRPCStatus(); st != nil {
			return st
		}
	}
	return status.FromContextError(err)
}

// sentByUpstream reports whether the status came over the wire. It says so
// only where trailers came in: without them grpc-go made the status up. Where
// they did, it may still have found the reply unusable before it looked at
// them, and that is seen in the text only.
func sentByUpstream(ctx context.Context, c *call, st *status.Status) bool {
	last := c.last.Load()
	if last == nil || !last.trailer.Load() {
		return false
	}
	message := st.Message()
	switch st.Code() {
	case codes.ResourceExhausted, codes.Internal, codes.Unimplemented:
		// An upstream that refuses a request with the same text (it is the same
		// library) does so without sending headers first.
		if last.header.Load() && strings.HasPrefix(message, "grpc: ") {
			return false
		}
		return !strings.HasPrefix(message, "cardinality violation")
	case codes.DeadlineExceeded:
		// The upstream is told the deadline and runs into it at the same moment,
		// so this bare text is the deadline's own and whose clock was faster is
		// chance: nobody says what became of the call.
		_, limited := ctx.Deadline()
		return !limited || message != context.DeadlineExceeded.Error() || len(st.Proto().GetDetails()) > 0
	case codes.Canceled:
		return ctx.Err() == nil || message != context.Canceled.Error()
	default:
		return true
	}
}

// explain words a status that grpc-go made up, by what is known: whether the
// call was sent, and whether it would change anything.
func (*faults) explain(ctx context.Context, read bool, c *call, code codes.Code) *apierror.Error {
	sent := c.sent.Load()
	if code == codes.Canceled && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		code = codes.DeadlineExceeded // the gateway had to stop before the answer came
	}
	if code == codes.Canceled {
		if errors.Is(ctx.Err(), context.Canceled) {
			if sent && !read {
				return apierror.New(codes.Canceled, apierror.ClientClosedRequest,
					"The client closed the request after it was sent to the Mesh API. It may or may not have been carried out.")
			}
			return apierror.New(codes.Canceled, apierror.ClientClosedRequest, "The client closed the request.")
		}
		// The connection is being closed here, or the upstream reset the stream.
		code = codes.Unavailable
	}

	switch {
	case !sent && code == codes.Unavailable:
		return apierror.New(codes.Unavailable, apierror.UpstreamUnreachable,
			"The Mesh API cannot be reached right now. Nothing was sent; try again.")
	case !sent && code == codes.DeadlineExceeded:
		return apierror.New(codes.Unavailable, apierror.UpstreamUnreachable,
			"The time for this request ran out before it could be sent to the Mesh API. Nothing was sent; try again.")
	case !sent:
		return apierror.New(codes.Internal, apierror.Internal,
			"The gateway could not send this request to the Mesh API. Nothing was sent. Report it with the request id.")
	}

	if read {
		switch code {
		case codes.Unavailable:
			return apierror.New(codes.Unavailable, apierror.UpstreamUnreachable,
				"The Mesh API did not answer: the connection to it was lost. The request only reads, so it is safe to repeat; try again.")
		case codes.DeadlineExceeded:
			return apierror.New(codes.DeadlineExceeded, apierror.UpstreamTimeout,
				"The Mesh API did not answer in time. The request only reads, so it is safe to repeat.")
		default:
			return apierror.New(codes.Internal, apierror.UpstreamReply,
				"The Mesh API answered with something that cannot be used, or with more than the gateway takes. Ask for less at a time, or report it with the request id.")
		}
	}

	last := c.last.Load()
	switch {
	case code == codes.DeadlineExceeded:
		return apierror.New(codes.DeadlineExceeded, apierror.OutcomeUnknown,
			"The request was sent to the Mesh API and no answer came back in time. It may or may not have been carried out: look for its effect (get or list) before you repeat it.")
	case code == codes.Unavailable, code == codes.Internal && !last.header.Load() && !last.trailer.Load():
		return apierror.New(codes.Unavailable, apierror.OutcomeUnknown,
			"The request was sent to the Mesh API and no answer came back. It may or may not have been carried out: look for its effect (get or list) before you repeat it.")
	default:
		return apierror.New(codes.Internal, apierror.UpstreamReply,
			"The request was sent to the Mesh API, but its answer cannot be used. The request may or may not have been carried out: look for its effect (get or list) before you repeat it.")
	}
}
