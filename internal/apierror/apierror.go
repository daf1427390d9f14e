// Package apierror writes the errors of the gateway. Every error response is a google.rpc.Status
// as ProtoJSON (AIP-193) with a RequestInfo detail that repeats the X-Request-Id header. Errors of
// the gateway itself also have an ErrorInfo detail with the domain [Domain], which distinguishes
// them from errors of the upstream.
//
// The package imports no other package of this module.
package apierror

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

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

// Domain is the ErrorInfo domain of the gateway's own errors.
const Domain = "gateway.mesh.trade"

// Reason is the ErrorInfo reason of an error of the gateway. The values are part of the API
// because programs compare them.
type Reason string

// The reasons of the gateway's errors. [Reason.Meaning] describes each.
const (
	InvalidRequest       Reason = "INVALID_REQUEST"
	CredentialsMissing   Reason = "CREDENTIALS_MISSING"
	CredentialsMalformed Reason = "CREDENTIALS_MALFORMED"
	CrossSite            Reason = "CROSS_SITE"
	AddressNotAllowed    Reason = "ADDRESS_NOT_ALLOWED"
	MethodDisabled       Reason = "METHOD_DISABLED"
	ReadOnly             Reason = "READ_ONLY"
	KeyNotAllowed        Reason = "KEY_NOT_ALLOWED"
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
	NotReady             Reason = "NOT_READY"
	Overloaded           Reason = "OVERLOADED"
	RateLimitUnavailable Reason = "RATE_LIMIT_UNAVAILABLE"
	UpstreamUnreachable  Reason = "UPSTREAM_UNREACHABLE"
	OutcomeUnknown       Reason = "OUTCOME_UNKNOWN"
	UpstreamTimeout      Reason = "UPSTREAM_TIMEOUT"
	UpstreamReply        Reason = "UPSTREAM_REPLY"
	UpstreamFailed       Reason = "UPSTREAM_FAILED"

	IdempotencyKeyInUse    Reason = "IDEMPOTENCY_KEY_IN_USE"
	IdempotencyKeyReused   Reason = "IDEMPOTENCY_KEY_REUSED"
	IdempotencyUnavailable Reason = "IDEMPOTENCY_UNAVAILABLE"
	AlreadyFinished        Reason = "ALREADY_FINISHED"
	AuditUnavailable       Reason = "AUDIT_UNAVAILABLE"
)

// meanings returns the reasons and their descriptions, in the order of the documentation.
func meanings() []struct {
	reason  Reason
	meaning string
} {
	return []struct {
		reason  Reason
		meaning string
	}{
		{InvalidRequest, "400: the request is invalid. See the field violations."},
		{CredentialsMissing, "401: the API key or the group is missing."},
		{CredentialsMalformed, "401: the API key or the group is malformed, or the ticket is not valid."},
		{CrossSite, "403: a page of another site called a gateway that adds its owner's key (local mode), or the controls of the sandbox."},
		{AddressNotAllowed, "403: the gateway, or its rule for the API key, does not accept calls from the address of the client. Nothing was sent."},
		{MethodDisabled, "403: the operator of the gateway has disabled the operation. Nothing was sent."},
		{ReadOnly, "403: the gateway is in read-only mode, and the operation writes. Nothing was sent."},
		{KeyNotAllowed, "403: the operator of the gateway does not allow the API key to call the operation. Nothing was sent."},
		{UnknownPath, "404: there is no route for the path."},
		{MethodNotAllowed, "405: the path does not support the HTTP method. `Allow` lists those that it supports."},
		{NotAcceptable, "406: no available response format matches `Accept`."},
		{RequestTimeout, "408: the body did not arrive in time."},
		{BodyTooLarge, "413: the body is larger than the gateway accepts."},
		{UnsupportedMediaType, "415: the body is not JSON."},
		{MisdirectedRequest, "421: a gateway that adds its owner's key (local mode), or the controls of the sandbox, were called with an unknown `Host`."},
		{RateLimited, "429: a limit was exceeded. Nothing was sent. Repeat the request after `Retry-After`."},
		{ClientClosedRequest, "499: the client closed the request. It appears in logs only."},
		{Internal, "500: a defect of the gateway."},
		{Draining, "503: the gateway is shutting down. Connect again."},
		{NotReady, "503: `/readyz` only: the gateway must not receive requests yet. The details say why."},
		{Overloaded, "503: the gateway has no memory for the call, or the gateway or the Mesh API is overloaded, so that the call would be late. Nothing was sent, or the call only reads. Repeat the request after `Retry-After`."},
		{RateLimitUnavailable, "503: the gateway cannot count the request against the rate limits. Nothing was sent. Repeat the request after `Retry-After`."},
		{UpstreamUnreachable, "503: the call was not sent, or it only reads. It is safe to repeat."},
		{OutcomeUnknown, "409, 500, 502, 503 or 504: the write was sent, but the Mesh API did not say what became of it. Check whether it took effect before you repeat it. The message and the metadata `lookup_rpc` and `lookup_path` say how."},
		{UpstreamTimeout, "504: there was no response to a read in time. It is safe to repeat."},
		{UpstreamReply, "502: the response to a read cannot be used."},
		{UpstreamFailed, "500: the Mesh API failed to process a read."},
		{IdempotencyKeyInUse, "409: a request with this `Idempotency-Key` is still being processed. Repeat it with the same key after `Retry-After`."},
		{AlreadyFinished, "409: a request with this `Idempotency-Key` was finished, and its answer is no longer available. The message says whether it was carried out."},
		{IdempotencyKeyReused, "422: the `Idempotency-Key` was used for another request. Nothing was sent."},
		{IdempotencyUnavailable, "503: the gateway cannot record the `Idempotency-Key`. Nothing was sent. Repeat the request after `Retry-After`."},
		{AuditUnavailable, "503: the gateway cannot record the write in its audit log. Nothing was sent. Repeat the request after `Retry-After`."},
	}
}

// Reasons returns all reasons, in the order of the documentation.
func Reasons() []Reason {
	var reasons []Reason
	for _, m := range meanings() {
		reasons = append(reasons, m.reason)
	}
	return reasons
}

// Meaning returns the HTTP status and a description of the reason, or "" if the reason is unknown.
func (r Reason) Meaning() string {
	for _, m := range meanings() {
		if m.reason == r {
			return m.meaning
		}
	}
	return ""
}

// StatusClientClosedRequest is nginx's status for a client that closed the connection. No RFC
// defines it. It appears in logs only.
const StatusClientClosedRequest = 499

// HTTPStatus returns the HTTP status of a gRPC code, as google/rpc/code.proto maps it.
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

// Error is an error of the gateway itself.
type Error struct {
	status *status.Status
	http   int
	cause  error
}

// Error returns the message that the client receives.
func (e *Error) Error() string { return e.status.Message() }

// GRPCStatus returns the status for [status.FromError].
func (e *Error) GRPCStatus() *status.Status { return e.status }

// HTTPStatus returns the status of the response. It differs from [HTTPStatus] of the code where
// HTTP is more specific than gRPC (405, 406, 408, 413, 415, 421).
func (e *Error) HTTPStatus() int { return e.http }

// New returns an error of the gateway for a call that was not sent to the upstream. The message
// says what was wrong and what to do. It must not contain keys or internals such as addresses.
func New(code codes.Code, reason Reason, message string, details ...proto.Message) *Error {
	return newError(code, message, info(reason, false), details...)
}

// NewSent is [New] for a call that was sent, so that the upstream may have received it.
func NewSent(code codes.Code, reason Reason, message string, details ...proto.Message) *Error {
	return newError(code, message, info(reason, true), details...)
}

// Unknown returns the error for a write that was sent and whose outcome is unknown. The message says
// what happened. Unknown adds that the write may have been carried out, and how to look: with the RPC
// by its full name and the path of its GET request, or "" if there is none.
func Unknown(code codes.Code, message, rpc, path string) *Error {
	unknown := info(OutcomeUnknown, true)
	check := "with a get or list call"
	if path != "" {
		unknown.Metadata["lookup_rpc"], unknown.Metadata["lookup_path"] = rpc, path
		check = "with GET " + path + " (" + rpc[strings.LastIndexByte(rpc, '/')+1:] + ")"
	}
	return newError(code, message+" It may or may not have been carried out. Check "+check+" whether it took effect before you repeat it.", unknown)
}

// info returns the ErrorInfo of the gateway. Its metadata "sent" is "true" if the upstream may have
// received the call, and otherwise "false".
func info(reason Reason, sent bool) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: string(reason), Domain: Domain, Metadata: map[string]string{"sent": strconv.FormatBool(sent)}}
}

func newError(code codes.Code, message string, info *errdetails.ErrorInfo, details ...proto.Message) *Error {
	e := &Error{status: status.New(code, message), http: HTTPStatus(code)}
	details = append([]proto.Message{info}, details...)
	for _, detail := range details {
		// WithDetails fails on OK and on messages that cannot be marshalled.
		if st, err := e.status.WithDetails(protoadapt.MessageV1Of(detail)); err == nil {
			e.status = st
		}
	}
	return e
}

// Sent reports whether the upstream may have received the call ([NewSent], [Unknown]).
func (e *Error) Sent() bool {
	for _, detail := range e.status.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()["sent"] == "true"
		}
	}
	return false
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// WithHTTPStatus returns a copy of the error with another HTTP status.
func (e *Error) WithHTTPStatus(httpStatus int) *Error {
	return &Error{status: e.status, http: httpStatus, cause: e.cause}
}

// WithCause returns a copy of the error with a cause. The cause is for the log and is never sent
// to clients, because it may contain internals such as an address of the upstream.
func (e *Error) WithCause(cause error) *Error {
	return &Error{status: e.status, http: e.http, cause: cause}
}

// Write writes err as the response. err is an [Error] or a status of the upstream. Any other
// error is a defect, and its text is not sent.
//
// The caller must have set X-Request-Id on w. Write reports err to the [Observer] of w.
func Write(w http.ResponseWriter, err error) {
	Observe(w, err)
	st, httpStatus := resolve(err)
	header := w.Header()
	header.Set("Content-Type", wire.JSON)
	header.Set("Cache-Control", "no-store")
	header.Del("Content-Length")
	header.Del("Transfer-Encoding")
	switch httpStatus {
	case http.StatusUnauthorized:
		// Required by RFC 9110, section 15.5.2.
		header.Set(wire.AuthenticateHeader, `Bearer realm="mesh"`)
	case http.StatusConflict:
		if reasonOf(st) == string(IdempotencyKeyInUse) {
			header.Set(wire.RetryAfterHeader, strconv.Itoa(retrySeconds(st)))
		}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		// Many clients repeat a request automatically if there is a Retry-After. They
		// must not if the first call may have been carried out.
		if header.Get(wire.RetryAfterHeader) == "" && !outcomeUnknown(st) {
			header.Set(wire.RetryAfterHeader, strconv.Itoa(retrySeconds(st)))
		}
	}
	w.WriteHeader(httpStatus)
	_, _ = w.Write(Marshal(st, header.Get(wire.RequestIDHeader)))
}

// HTTPStatusOf returns the HTTP status that [Write] uses for err.
func HTTPStatusOf(err error) int {
	_, httpStatus := resolve(err)
	return httpStatus
}

// Status returns the gRPC status that [Write] uses for err.
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
	return New(codes.Internal, Internal, "The gateway failed to process this request. Report this problem with the request id.")
}

// Defect returns the body of the response to a call that failed because of a defect of the gateway.
func Defect(requestID string) []byte { return Marshal(defect().status.Proto(), requestID) }

// Marshal returns a status as ProtoJSON with a RequestInfo detail for the id. Details of types
// that this program does not know cannot be converted to JSON and are omitted.
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
		// The message is not valid UTF-8.
		return []byte(`{"code":13,"message":"The error message is not valid UTF-8."}` + "\n")
	}
	var compact bytes.Buffer // protojson varies its white space from build to build
	if err := json.Compact(&compact, body); err != nil {
		return append(body, '\n')
	}
	compact.WriteByte('\n')
	return compact.Bytes()
}

func outcomeUnknown(st *spb.Status) bool { return reasonOf(st) == string(OutcomeUnknown) }

// retrySeconds returns the delay of the RetryInfo in seconds, rounded up, and at least 1.
func retrySeconds(st *spb.Status) int {
	for _, detail := range st.GetDetails() {
		info := new(errdetails.RetryInfo)
		if detail.UnmarshalTo(info) == nil {
			return max(1, int(math.Ceil(info.GetRetryDelay().AsDuration().Seconds())))
		}
	}
	return 1
}
