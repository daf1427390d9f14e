package idempotency

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

const (
	// inFlightDelay is the Retry-After for a request that is in flight. Most calls take less.
	inFlightDelay = time.Second
	// limitDelay is the Retry-After for a caller with too many records. They expire one by one.
	limitDelay = time.Minute
)

// errOtherVersion is an error for the log.
var errOtherVersion = errors.New("the record was written by another version of the gateway")

// goneError is for a request that ended before it was sent. cause is an error of a context.
func goneError(cause error) *apierror.Error {
	if errors.Is(cause, context.Canceled) {
		return apierror.New(codes.Canceled, apierror.ClientClosedRequest, "The client closed the request. Nothing was sent to the Mesh API.")
	}
	return apierror.New(codes.Unavailable, apierror.UpstreamUnreachable,
		"The request timed out before it could be sent to the Mesh API. Nothing was sent. Try again.")
}

// storeError is for a request that was not sent because its key could not be claimed.
func storeError(cause error) *apierror.Error {
	switch {
	case errors.Is(cause, ErrCallerLimit):
		return apierror.New(codes.ResourceExhausted, apierror.RateLimited,
			"This API key has used too many idempotency keys in the last 7 days. Nothing was sent to the Mesh API. Try again later.",
			retryAfter(limitDelay)).WithCause(cause)
	case errors.Is(cause, ErrFull):
		return apierror.New(codes.Unavailable, apierror.IdempotencyUnavailable,
			"The gateway has no space for another idempotency key. Nothing was sent to the Mesh API. Try again later.",
			retryAfter(limitDelay)).WithCause(cause)
	case errors.Is(cause, errOtherVersion):
		return apierror.NewSent(codes.Unavailable, apierror.IdempotencyUnavailable,
			"A gateway of another version has processed a request with this Idempotency-Key, and this one cannot read its record. It was not sent again. Try again with the same key.").WithCause(cause)
	}
	return apierror.New(codes.Unavailable, apierror.IdempotencyUnavailable,
		"The gateway cannot record the Idempotency-Key at the moment. Nothing was sent to the Mesh API. Try again with the same key.").WithCause(cause)
}

func reusedError() *apierror.Error {
	return apierror.New(codes.InvalidArgument, apierror.IdempotencyKeyReused,
		"This Idempotency-Key was used for another request. Nothing was sent to the Mesh API. Send a new key with a new request, or repeat the first request unchanged.").
		WithHTTPStatus(http.StatusUnprocessableEntity)
}

func inFlightError() *apierror.Error {
	return apierror.NewSent(codes.Aborted, apierror.IdempotencyKeyInUse,
		"A request with this Idempotency-Key is still being processed. It was not sent again. Repeat it later with the same key to get the answer.",
		retryAfter(inFlightDelay))
}

// unknownError has no RetryInfo, because a repeated request gets the same answer.
func (r *Request) unknownError() *apierror.Error {
	rpc, path := r.lookup()
	return apierror.Unknown(codes.Aborted,
		"A request with this Idempotency-Key was sent to the Mesh API, but its outcome is not known."+r.reference(), rpc, path)
}

// finishedError is for a request whose answer is not there to be replayed.
func (r *Request) finishedError(state State) *apierror.Error {
	if state == Refused {
		return apierror.NewSent(codes.Aborted, apierror.AlreadyFinished,
			"A request with this Idempotency-Key was refused by the Mesh API and not carried out. The answer is no longer available. It was not sent again. To try again, send a new key.")
	}
	look := ""
	if rpc, path := r.lookup(); path != "" {
		look = " See what it did with GET " + path + " (" + rpc[strings.LastIndexByte(rpc, '/')+1:] + ")."
	}
	return apierror.NewSent(codes.Aborted, apierror.AlreadyFinished,
		"A request with this Idempotency-Key was carried out by the Mesh API. The answer is no longer available. It was not sent again."+r.reference()+look)
}

// lookup returns how to find out what became of the request.
func (r *Request) lookup() (rpc, path string) { return contract.ByName(r.Method).Lookup(r.Message) }

// reference returns a sentence with the reference that was derived from the key, or "".
func (r *Request) reference() string {
	reference := derivedReference(r.Message, IDOf(CallerOf(r.APIKey), r.Group, r.Method, r.Key))
	if reference == "" {
		return ""
	}
	return " Its " + string(referenceField) + " is " + reference + "."
}

func retryAfter(delay time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
}

func isAlreadyExists(err error) bool { return apierror.CodeOf(err) == codes.AlreadyExists }

// statusBytes returns the status of an error in wire form.
func statusBytes(err error) []byte {
	st := apierror.Status(err).Proto()
	// A status in HTTP headers may have any bytes. One of protobuf may not.
	st.Message = strings.ToValidUTF8(st.GetMessage(), "\ufffd")
	bytes, err := proto.Marshal(st)
	if err != nil {
		st.Details = nil
		bytes, _ = proto.Marshal(st) // cannot fail without details
	}
	return bytes
}
