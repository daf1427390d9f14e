package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// WriteError answers a request with an error, in the shape of all errors of the gateway:
// google.rpc.Status as JSON. The HTTP status follows from the gRPC code of the error; an
// error without one is answered with 500 and a text that does not give it away. Where w
// has the header X-Request-Id, the answer repeats it.
func WriteError(w http.ResponseWriter, _ *http.Request, err error) { apierror.Write(w, err) }

// notFound answers a path that has no route.
func notFound(w http.ResponseWriter, r *http.Request) {
	apierror.Write(w, apierror.New(codes.NotFound, apierror.UnknownPath, "There is no route for "+r.URL.Path+"."))
}

// methodNotAllowed answers a path that has routes for other methods (RFC 9110, section
// 15.5.6).
func methodNotAllowed(w http.ResponseWriter, r *http.Request, allow string) {
	w.Header().Set("Allow", allow)
	apierror.Write(w, apierror.New(codes.Unimplemented, apierror.MethodNotAllowed,
		r.URL.Path+" does not support "+r.Method+". Allowed: "+allow+".").WithHTTPStatus(http.StatusMethodNotAllowed))
}

// writeError is the runtime's handler of an error that is the whole answer.
func writeError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errHeadersOnly) {
		return
	}
	if q, ok := r.Body.(*request); ok {
		err = q.withContext(q.public(err))
	}
	apierror.Write(w, err)
}

// streamStatus is the runtime's handler of an error that ends a stream.
func streamStatus(ctx context.Context, err error) *status.Status {
	if q, missing := requestOf(ctx); missing == nil {
		err = q.withContext(err)
		apierror.Observe(q.response, err)
	}
	return apierror.Status(err)
}

// public returns the error that the client sees.
func (q *request) public(err error) error {
	if q.refusal != nil {
		return q.refusal
	}
	if broken, ok := errors.AsType[*brokenRules](err); ok {
		q.route.rules.list(q.route, broken.request, broken.first, &q.problems)
		return q.problems.Err()
	}
	if _, own := errors.AsType[*apierror.Error](err); own {
		return err
	}
	if q.route.Method.Write && status.Code(err) == codes.DeadlineExceeded {
		// A connection of internal/upstream has said so already. Of others, nobody knows who
		// noticed the deadline.
		return q.unknown(codes.DeadlineExceeded, "There was no response from the Mesh API in time.").WithCause(err)
	}
	return q.respell(err)
}

// respell spells the fields that the upstream names as the client does, so that a form
// can show an error beside its input.
func (q *request) respell(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	answer := st.Proto()
	changed := false
	for i, detail := range answer.GetDetails() {
		bad := new(errdetails.BadRequest)
		if !detail.MessageIs(bad) || detail.UnmarshalTo(bad) != nil {
			continue
		}
		for _, violation := range bad.GetFieldViolations() {
			violation.Field = q.route.translate(violation.GetField())
		}
		if respelt, err := anypb.New(bad); err == nil {
			answer.Details[i], changed = respelt, true
		}
	}
	if !changed {
		return err
	}
	return status.FromProto(answer).Err()
}

// errDraining ends streams when the gateway shuts down.
var errDraining = errors.New("the gateway is shutting down")

// withContext words the end of the request's own context, which arrives as a bare
// "context deadline exceeded" or "context canceled".
func (q *request) withContext(err error) error {
	if q.ctx.Err() == nil {
		return err
	}
	if errors.Is(context.Cause(q.ctx), errDraining) {
		return apierror.New(codes.Unavailable, apierror.Draining, "The gateway is shutting down. Connect again to continue.")
	}
	if st, ok := status.FromError(err); ok && len(st.Details()) > 0 {
		return err
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return apierror.NewSent(codes.DeadlineExceeded, apierror.UpstreamTimeout, "The Mesh API did not respond in time.").WithCause(err)
	case codes.Canceled:
		return apierror.NewSent(codes.Canceled, apierror.ClientClosedRequest, "The client closed the request before the response was sent.").WithCause(err)
	}
	return err
}
