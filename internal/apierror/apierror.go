// Package apierror is the one shape of every error that leaves the gateway:
// google.rpc.Status as ProtoJSON (AIP-193), with a RequestInfo detail that
// repeats the X-Request-Id header. What the gateway refuses itself also holds
// an ErrorInfo detail of domain [Domain], so that a program can tell the
// gateway's refusal from the upstream's.
//
// It is a leaf: it imports no other package of the gateway.
package apierror

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/anypb"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Domain is the ErrorInfo domain of the gateway's own refusals.
const Domain = "gateway.mesh.trade"

// Reason is the ErrorInfo reason of a refusal by the gateway. The values are
// part of the API: programs compare them.
type Reason string

// The reasons for which the gateway refuses a request; [Reason.Meaning] says
// with which status, and why.
const (
	InvalidRequest       Reason = "INVALID_REQUEST"
	CredentialsMissing   Reason = "CREDENTIALS_MISSING"
	CredentialsMalformed Reason = "CREDENTIALS_MALFORMED"
	CrossSite            Reason = "CROSS_SITE"
	UnknownPath          Reason = "UNKNOWN_PATH"
	MethodNotAllowed     Reason = "METHOD_NOT_ALLOWED"
	NotAcceptable        Reason = "NOT_ACCEPTABLE"
	RequestTimeout       Reason = "REQUEST_TIMEOUT"
	BodyTooLarge         Reason = "BODY_TOO_LARGE"
	UnsupportedMediaType Reason = "UNSUPPORTED_MEDIA_TYPE"
	MisdirectedRequest   Reason = "MISDIRECTED_REQUEST"
	RateLimited          Reason = "RATE_LIMITED"
	ClientClosedRequest  Reason = "CLIENT_CLOSED_REQUEST"
	Internal             Reason = "INTERNAL"
	Draining             Reason = "DRAINING"
	UpstreamUnreachable  Reason = "UPSTREAM_UNREACHABLE"
	OutcomeUnknown       Reason = "OUTCOME_UNKNOWN"
	UpstreamTimeout      Reason = "UPSTREAM_TIMEOUT"
	UpstreamReply        Reason = "UPSTREAM_REPLY"
)

// meanings are the reasons in the order of their statuses.
func meanings() []struct {
	reason  Reason
	meaning string
} {
	return []struct {
		reason  Reason
		meaning string
	}{
		{InvalidRequest, "400: see the field violations."},
		{CredentialsMissing, "401: the key or the group is not there."},
		{CredentialsMalformed, "401: the key, the group or the ticket cannot be one."},
		{CrossSite, "403: a page of another site called a gateway that adds its owner's key, or the sandbox's controls."},
		{UnknownPath, "404: there is no such route."},
		{MethodNotAllowed, "405: `Allow` names the methods."},
		{NotAcceptable, "406: `Accept` leaves out all that can be answered."},
		{RequestTimeout, "408: the body did not arrive in time."},
		{BodyTooLarge, "413: the body is larger than the gateway takes."},
		{UnsupportedMediaType, "415: the body is not JSON."},
		{MisdirectedRequest, "421: a foreign Host called a gateway that adds its owner's key."},
		{RateLimited, "429: nothing was done; repeat it after `Retry-After`."},
		{ClientClosedRequest, "499: the client left; it is seen in logs alone."},
		{Internal, "500: a defect of the gateway."},
		{Draining, "503: the gateway is about to stop; connect again."},
		{UpstreamUnreachable, "503: the call was never sent; it is safe to repeat."},
		{OutcomeUnknown, "503 or 504: the call was sent and no answer came back; look before you repeat it."},
		{UpstreamTimeout, "504: a read was not answered in time."},
		{UpstreamReply, "500: the upstream's answer cannot be used."},
	}
}

// Reasons returns all reasons, in the order of their statuses.
func Reasons() []Reason {
	var reasons []Reason
	for _, m := range meanings() {
		reasons = append(reasons, m.reason)
	}
	return reasons
}

// Meaning says with which HTTP status the reason comes, and why. It is "" for
// one that is not the gateway's.
func (r Reason) Meaning() string {
	for _, m := range meanings() {
		if m.reason == r {
			return m.meaning
		}
	}
	return ""
}

// StatusClientClosedRequest is nginx's status for a client that left; it has
// no RFC and is seen in logs and metrics only.
const StatusClientClosedRequest = 499

// HTTPStatus maps a gRPC code to the HTTP status of its answer, as
// google/rpc/code.proto does.
func HTTPStatus(code codes.Code) int {
	switch code {
	case codes.OK:
		return http.StatusOK
	case codes.Canceled:
		return StatusClientClosedRequest
	case codes.InvalidArgument, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.FailedPrecondition:
		// Not 412, which is about conditional request headers (RFC 9110).
		return http.StatusBadRequest
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return http.StatusInternalServerError
	default:
		return http.StatusInternalServerError
	}
}

// Error is a refusal by the gateway itself.
type Error struct {
	status *status.Status
	http   int
	cause  error
}

// Error gives the message alone; it is what the client reads.
func (e *Error) Error() string { return e.status.Message() }

// GRPCStatus lets the status package read the error.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// HTTPStatus is the status of the answer. It differs from [HTTPStatus] of the
// code where HTTP is the finer of the two (405, 406, 413, 415, 421).
func (e *Error) HTTPStatus() int { return e.http }

// New returns a refusal by the gateway. The message tells a person what was
// wrong and what to do; it must not hold a key or an internal.
func New(code codes.Code, reason Reason, message string, details ...proto.Message) *Error {
	e := &Error{status: status.New(code, message), http: HTTPStatus(code)}
	details = append([]proto.Message{&errdetails.ErrorInfo{Reason: string(reason), Domain: Domain}}, details...)
	for _, detail := range details {
		// WithDetails fails on OK and on messages that cannot be marshalled.
		if st, err := e.status.WithDetails(protoadapt.MessageV1Of(detail)); err == nil {
			e.status = st
		}
	}
	return e
}

// Unwrap returns the cause, nil where there is none.
func (e *Error) Unwrap() error { return e.cause }

// WithHTTPStatus returns the refusal with a status of its own.
func (e *Error) WithHTTPStatus(httpStatus int) *Error {
	return &Error{status: e.status, http: httpStatus, cause: e.cause}
}

// WithCause returns the refusal with what operators may know and clients may not,
// such as an address of the upstream. It is in no answer.
func (e *Error) WithCause(cause error) *Error {
	return &Error{status: e.status, http: e.http, cause: cause}
}

// Write answers with err: a refusal by the gateway, or a status of the
// upstream. Any other error is a defect and is answered without its text.
//
// The caller has set X-Request-Id on w before. The error is reported to the
// observer of the request ([WithObserver]).
func Write(w http.ResponseWriter, r *http.Request, err error) {
	Observe(r.Context(), err)
	st, httpStatus := resolve(err)
	header := w.Header()
	header.Set("Content-Type", wire.JSON)
	header.Set("Cache-Control", "no-store")
	header.Del("Content-Length")
	header.Del("Transfer-Encoding")
	switch httpStatus {
	case http.StatusUnauthorized:
		// RFC 9110, section 15.5.2: a 401 names its challenge.
		header.Set(wire.AuthenticateHeader, `Bearer realm="mesh"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		// Clients repeat at Retry-After of their own accord, which is wrong where
		// the first call may have been carried out.
		if header.Get(wire.RetryAfterHeader) == "" && !outcomeUnknown(st) {
			header.Set(wire.RetryAfterHeader, strconv.Itoa(retrySeconds(st)))
		}
	}
	w.WriteHeader(httpStatus)
	_, _ = w.Write(Marshal(st, header.Get(wire.RequestIDHeader)))
}

// HTTPStatusOf is the status that [Write] would answer with.
func HTTPStatusOf(err error) int {
	_, httpStatus := resolve(err)
	return httpStatus
}

// Status is the status that [Write] would answer with.
func Status(err error) *status.Status {
	st, _ := resolve(err)
	return status.FromProto(st)
}

func resolve(err error) (*spb.Status, int) {
	if own, ok := errors.AsType[*Error](err); ok {
		return own.status.Proto(), own.http
	}
	if st, ok := status.FromError(err); ok && st.Code() != codes.OK {
		return st.Proto(), HTTPStatus(st.Code())
	}
	own := defect()
	return own.status.Proto(), own.http
}

func defect() *Error {
	return New(codes.Internal, Internal, "The gateway failed to answer this request. Report it with the request id.")
}

// Defect is the body of an answer to a call that met a defect of the gateway.
func Defect(requestID string) []byte { return Marshal(defect().status.Proto(), requestID) }

// Marshal renders a status as ProtoJSON with a RequestInfo for the id. Details
// of types this program does not know cannot be rendered and are left out: an
// error with fewer details beats an error about the error.
func Marshal(st *spb.Status, requestID string) []byte {
	out := &spb.Status{Code: st.GetCode(), Message: st.GetMessage()}
	for _, detail := range st.GetDetails() {
		if _, err := detail.UnmarshalNew(); err == nil && !detail.MessageIs((*errdetails.RequestInfo)(nil)) {
			out.Details = append(out.Details, detail)
		}
	}
	if requestID != "" {
		if info, err := anypb.New(&errdetails.RequestInfo{RequestId: requestID}); err == nil {
			out.Details = append(out.Details, info)
		}
	}
	body, err := protojson.Marshal(out)
	if err != nil {
		// Reached by a message that is not UTF-8.
		return []byte(`{"code":13,"message":"The error could not be rendered."}` + "\n")
	}
	var compact bytes.Buffer // protojson varies its spacing from build to build
	if err := json.Compact(&compact, body); err != nil {
		return append(body, '\n')
	}
	compact.WriteByte('\n')
	return compact.Bytes()
}

func outcomeUnknown(st *spb.Status) bool {
	for _, detail := range st.GetDetails() {
		info := new(errdetails.ErrorInfo)
		if detail.UnmarshalTo(info) == nil && info.GetDomain() == Domain && info.GetReason() == string(OutcomeUnknown) {
			return true
		}
	}
	return false
}

// retrySeconds is the upstream's RetryInfo in whole seconds, at least one.
func retrySeconds(st *spb.Status) int {
	for _, detail := range st.GetDetails() {
		info := new(errdetails.RetryInfo)
		if detail.UnmarshalTo(info) == nil {
			return max(1, int(math.Ceil(info.GetRetryDelay().AsDuration().Seconds())))
		}
	}
	return 1
}
