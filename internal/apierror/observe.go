package apierror

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type observerKey struct{}

// WithObserver returns a context in which observe is given the error that the
// request fails with: the one that [Write] answers with, or the one that ends a
// stream. An access log learns from it what the client is not told.
func WithObserver(ctx context.Context, observe func(error)) context.Context {
	return context.WithValue(ctx, observerKey{}, observe)
}

// Observe gives the observer of the context an error. Without an observer it does
// nothing.
func Observe(ctx context.Context, err error) {
	if observe, ok := ctx.Value(observerKey{}).(func(error)); ok {
		observe(err)
	}
}

// CodeOf returns the gRPC code of the status that [Write] answers an error with.
func CodeOf(err error) codes.Code {
	st, _ := resolve(err)
	return codes.Code(st.GetCode())
}

// ReasonOf returns the reason in the gateway's ErrorInfo of the status that [Write]
// answers an error with. It is "" for a status of the upstream, whose ErrorInfo has
// another domain.
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

// CauseOf returns what an error was answered for and clients are not told: the
// cause of a refusal of the gateway, or an error without a status, which is a
// defect. It is nil for a status of the upstream.
func CauseOf(err error) error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own.cause
	}
	if _, ok := status.FromError(err); ok {
		return nil
	}
	return err
}
