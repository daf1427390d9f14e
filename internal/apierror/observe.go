package apierror

import (
	"errors"
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	spb "google.golang.org/genproto/googleapis/rpc/status"
)

// An Observer is an [http.ResponseWriter] that learns of the error of its request. The access log
// implements it to record causes that are not sent to clients.
type Observer interface {
	// ObserveError is called with the error that [Write] writes, or the one that ends a stream. It
	// may be called several times, and from several goroutines.
	ObserveError(err error)
}

// Observe reports the error of a request to the [Observer] that w is or wraps, if there is one.
// Wrappers must have the method Unwrap of [http.ResponseController].
func Observe(w http.ResponseWriter, err error) {
	for w != nil {
		if observer, ok := w.(Observer); ok {
			observer.ObserveError(err)
			return
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return
		}
		w = wrapper.Unwrap()
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
	return reasonOf(st)
}

func reasonOf(st *spb.Status) string {
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
