package apierror

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type observerKey struct{}

// WithObserver returns a context in which observe is called with the error of the request: the one
// that [Write] writes, or the one that ends a stream. The access log uses it to record causes that
// are not sent to clients.
func WithObserver(ctx context.Context, observe func(error)) context.Context {
	return context.WithValue(ctx, observerKey{}, observe)
}

// Observe reports an error to the observer of the context, if there is one.
func Observe(ctx context.Context, err error) {
	if observe, ok := ctx.Value(observerKey{}).(func(error)); ok {
		observe(err)
	}
}

// CodeOf returns the gRPC code that [Write] uses for err.
func CodeOf(err error) codes.Code {
	st, _ := resolve(err)
	return codes.Code(st.GetCode())
}

// ReasonOf returns the reason in the gateway's ErrorInfo of the status that [Write] uses for err.
// It is "" for a status of the upstream, whose ErrorInfo has another domain.
func ReasonOf(err error) string {
	st, _ := resolve(err)
	for _, detail := range st.GetDetails() {
		info := new(errdetails.ErrorInfo)
		if detail.UnmarshalTo(info) == nil && info.GetDomain() == Domain {
			return info.GetReason()
		}
	}
	return ""
}

// CauseOf returns the part of an error that is not sent to clients: the cause of an [Error], or an
// error without a status, which is a defect. It is nil for a status of the upstream.
func CauseOf(err error) error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own.cause
	}
	if _, ok := status.FromError(err); ok {
		return nil
	}
	return err
}
