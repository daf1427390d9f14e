package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// call is the state of a call over all of its attempts. It is also the context of the call, in which
// the observer finds it.
type call struct {
	context.Context //nolint:containedctx // it is a context

	// sent reports whether an attempt was passed to a connection, so that the upstream may have
	// received it. It stays true if later attempts are not sent.
	sent atomic.Bool
	last atomic.Pointer[attempt]
	// attempts and sends are the numbers of attempts that have failed and of those that were sent.
	attempts, sends int
	// lost reports whether the connection of a write was left before its answer.
	lost bool
}

// Value implements [context.Context].
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// attempt records what was sent and received in one attempt. The status of a call is that of its
// last attempt. It is also the context of the attempt.
type attempt struct {
	context.Context //nolint:containedctx // it is a context

	call                  *call
	sent, header, trailer atomic.Bool
}

// Value implements [context.Context].
func (a *attempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a
	}
	return a.Context.Value(key)
}

type (
	callKey    struct{}
	attemptKey struct{}
)

// observer is a stats handler that records what was sent and received. It distinguishes statuses
// that the upstream sent from those that grpc-go generated because there was no response.
type observer struct{}

// TagRPC implements [stats.Handler]. It is called for each attempt.
func (observer) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return ctx
	}
	a := &attempt{Context: ctx, call: c}
	c.last.Store(a)
	return a
}

// HandleRPC implements [stats.Handler].
func (observer) HandleRPC(ctx context.Context, event stats.RPCStats) {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return
	}
	switch event.(type) {
	case *stats.OutHeader, *stats.OutPayload:
		a.sent.Store(true)
		a.call.sent.Store(true)
	case *stats.InHeader:
		a.header.Store(true)
	case *stats.InTrailer:
		a.trailer.Store(true)
	}
}

// TagConn implements [stats.Handler].
func (observer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements [stats.Handler].
func (observer) HandleConn(context.Context, stats.ConnStats) {}

// operation is what a call asks for.
type operation struct {
	method  string
	request any
}

// reads reports whether the operation is a READ of the contract. All others may change something.
func (o operation) reads() bool {
	m := contract.ByName(o.method)
	return m != nil && !m.Write
}

// unknown returns the error for a write whose outcome is unknown.
func (o operation) unknown(code codes.Code, message string) *apierror.Error {
	request, _ := o.request.(proto.Message)
	rpc, path := contract.ByName(o.method).Lookup(request)
	return apierror.Unknown(code, message, rpc, path)
}

// translate returns the error for the client of a failed call.
func translate(ctx context.Context, o operation, c *call, err error) error {
	// io.EOF is the normal end of a stream.
	if err == nil || err == io.EOF { //nolint:errorlint // grpc-go returns io.EOF itself
		return err
	}
	st := statusOf(err)
	if sentByUpstream(ctx, c.last.Load(), st) {
		return answer(o, st)
	}
	if _, ok := errors.AsType[*apierror.Error](err); ok {
		return err
	}
	// The error of grpc-go contains addresses, so it is only the cause, for the log.
	return explain(ctx, o, c, st.Code()).WithCause(err)
}

// answer returns the error for a status that the upstream sent. Most are passed on.
//
// The text of a failure of the upstream is for its operators, so it is only the cause. After it, and
// after a status that a proxy in front of Mesh sends when it has no answer, nobody knows what became
// of a write.
func answer(o operation, st *status.Status) error {
	const failed = "The Mesh API failed to process this request."
	switch st.Code() {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		if o.reads() {
			return apierror.NewSent(st.Code(), apierror.UpstreamFailed, failed+" Report this problem with the request id.").WithCause(st.Err())
		}
		return o.unknown(st.Code(), failed).WithCause(st.Err())
	case codes.DeadlineExceeded:
		if !o.reads() {
			return o.unknown(codes.DeadlineExceeded, "The request was sent to the Mesh API, but it was not processed in time.").WithCause(st.Err())
		}
	case codes.Unavailable, codes.Canceled:
		if !o.reads() {
			return o.unknown(codes.Unavailable, "The request was sent to the Mesh API, which became unavailable.").WithCause(st.Err())
		}
	}
	return bounded(st).Err()
}

const (
	// maxMessage and maxDetails are the sizes of the message of an upstream's status and of its
	// details that are passed on, in bytes.
	maxMessage = 4 << 10
	maxDetails = 64 << 10
)

// bounded returns a status without what exceeds the limits.
func bounded(st *status.Status) *status.Status {
	answer := st.Proto()
	size, kept := 0, 0
	for _, detail := range answer.GetDetails() {
		if size += proto.Size(detail); size > maxDetails {
			break
		}
		kept++
	}
	if len(answer.GetMessage()) <= maxMessage && kept == len(answer.GetDetails()) {
		return st
	}
	answer.Message = strings.ToValidUTF8(answer.GetMessage()[:min(len(answer.GetMessage()), maxMessage)], "")
	answer.Details = answer.Details[:kept]
	return status.FromProto(answer)
}

// statusOf returns the status as it was received. grpc-go wraps it after the last retry, and
// status.FromError would add the text of the wrapping error to the message.
func statusOf(err error) *status.Status {
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) {
		if st := carrier.GRPCStatus(); st != nil {
			return st
		}
	}
	return status.FromContextError(err)
}

// sentByUpstream reports whether the upstream sent the status. If no trailers were received,
// grpc-go generated it. If they were, grpc-go may still have generated it, because it could not use
// the message before the trailers. Only the text of the status shows that.
func sentByUpstream(ctx context.Context, last *attempt, st *status.Status) bool {
	if last == nil || !last.trailer.Load() {
		return false
	}
	message := st.Message()
	switch st.Code() {
	case codes.ResourceExhausted, codes.Internal, codes.Unimplemented:
		// An upstream that uses grpc-go may reject a request with the same text, but then it
		// does not send headers first.
		if last.header.Load() && strings.HasPrefix(message, "grpc: ") {
			return false
		}
		// The second is the text for a message that the trailers cut off.
		return !strings.HasPrefix(message, "cardinality violation") && message != io.ErrUnexpectedEOF.Error()
	case codes.DeadlineExceeded:
		// The upstream has the same deadline, and either side may notice it first. A status
		// with this text and no details does not say whether the call was carried out.
		_, limited := ctx.Deadline()
		return !limited || message != context.DeadlineExceeded.Error() || len(st.Proto().GetDetails()) > 0
	case codes.Canceled:
		return ctx.Err() == nil || message != context.Canceled.Error()
	default:
		return true
	}
}

// explain returns the error for a status that grpc-go generated. It depends on whether the call was
// sent and whether it only reads.
func explain(ctx context.Context, o operation, c *call, code codes.Code) *apierror.Error {
	sent, read := c.sent.Load(), o.reads()
	if code == codes.Canceled && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		code = codes.DeadlineExceeded // the gateway shut down before the response
	}
	if code == codes.Canceled {
		if errors.Is(ctx.Err(), context.Canceled) {
			switch {
			case !sent:
				return apierror.New(codes.Canceled, apierror.ClientClosedRequest, "The client closed the request. Nothing was sent to the Mesh API.")
			case read:
				return apierror.NewSent(codes.Canceled, apierror.ClientClosedRequest, "The client closed the request.")
			default:
				return apierror.NewSent(codes.Canceled, apierror.ClientClosedRequest,
					"The client closed the request after it was sent to the Mesh API. It may or may not have been carried out.")
			}
		}
		// The gateway is closing the connection, or the upstream reset the stream.
		code = codes.Unavailable
	}

	switch {
	case !sent && code == codes.Unavailable:
		return apierror.New(codes.Unavailable, apierror.UpstreamUnreachable,
			"The Mesh API cannot be reached at the moment. Nothing was sent. Try again.")
	case !sent && code == codes.DeadlineExceeded:
		return apierror.New(codes.Unavailable, apierror.UpstreamUnreachable,
			"The request timed out before it could be sent to the Mesh API. Nothing was sent. Try again.")
	case !sent:
		return apierror.New(codes.Internal, apierror.Internal,
			"The gateway could not send this request to the Mesh API. Nothing was sent. Report this problem with the request id.")
	}

	if c.lost && code == codes.DeadlineExceeded {
		code = codes.Unavailable // the deadline says nothing of the upstream: its answer cannot have arrived
	}
	last := c.last.Load()
	if code == codes.Internal && (last == nil || !last.header.Load() && !last.trailer.Load()) {
		code = codes.Unavailable // the upstream reset the stream
	}
	if read {
		switch code {
		case codes.Unavailable:
			return apierror.NewSent(codes.Unavailable, apierror.UpstreamUnreachable,
				"The connection to the Mesh API was lost before it responded. The request was sent, but it is read-only and safe to repeat. Try again.")
		case codes.DeadlineExceeded:
			return apierror.NewSent(codes.DeadlineExceeded, apierror.UpstreamTimeout,
				"The Mesh API did not respond in time. The request was sent, but it is read-only and safe to repeat.")
		default:
			return apierror.NewSent(codes.Internal, apierror.UpstreamReply,
				"The response from the Mesh API is invalid or larger than the gateway accepts. The request was sent, but it is read-only and safe to repeat. Request less data at a time, or report this problem with the request id.").
				WithHTTPStatus(http.StatusBadGateway)
		}
	}

	switch code {
	case codes.DeadlineExceeded:
		return o.unknown(codes.DeadlineExceeded, "The request was sent to the Mesh API, but there was no response in time.")
	case codes.Unavailable:
		return o.unknown(codes.Unavailable, "The request was sent to the Mesh API, but there was no response.")
	default:
		return o.unknown(codes.Internal, "The request was sent to the Mesh API, but its response cannot be used.").WithHTTPStatus(http.StatusBadGateway)
	}
}
