package idempotency

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// Outcome is how a call ended. There is a function for each way it can. The zero Outcome is that of
// a call of which nothing is known.
type Outcome struct {
	kind  kind
	reply []byte
	err   error
}

type kind int

const (
	unanswered kind = iota
	replied
	refused
	notSent
)

// Replied is the outcome of a call that Mesh carried out. reply is its reply in wire form. It is
// not kept after [Keeper.Do] has returned.
func Replied(reply []byte) Outcome { return Outcome{kind: replied, reply: reply} }

// RefusedByMesh is the outcome of a call that Mesh itself answered with an error status. A status
// that a proxy or this program made is not one: use [Unanswered].
func RefusedByMesh(err error) Outcome { return Outcome{kind: refused, err: err} }

// NotSent is the outcome of a call that this program did not send.
func NotSent(err error) Outcome { return Outcome{kind: notSent, err: err} }

// Unanswered is the outcome of a call that may have been sent and has no answer of Mesh itself.
func Unanswered(err error) Outcome { return Outcome{kind: unanswered, err: err} }

// effect is what an outcome means for the record.
type effect int

const (
	// stay leaves the record as it is, so that it reads as unknown after its deadline.
	stay effect = iota
	finishDone
	finishRefused
	release
)

// effect returns the effect of an outcome. derived reports whether the request had a reference that
// was derived from its key ([SetReference]).
func (o Outcome) effect(derived bool) effect {
	switch o.kind {
	case replied:
		return finishDone
	case notSent:
		return release
	case refused:
		return effectOf(apierror.CodeOf(o.err), derived)
	default:
		return stay
	}
}

// effectOf returns the effect of a status of Mesh. Only these codes say that a request was not
// carried out. The others are also sent by a server that failed in the middle of a request.
func effectOf(code codes.Code, derived bool) effect {
	switch code {
	case codes.AlreadyExists:
		if derived {
			// Only a request with the same key has this reference, so one was carried out. A
			// proxy that sent the request twice brings this about.
			return stay
		}
		return finishRefused
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.FailedPrecondition,
		codes.OutOfRange, codes.Unimplemented:
		return finishRefused
	case codes.Unauthenticated, codes.ResourceExhausted:
		// Mesh refuses these before it does anything, and the same request can succeed later.
		return release
	default:
		return stay
	}
}

// error returns the error for the client, or nil if the call was carried out.
func (o Outcome) error() error {
	if o.kind != replied && o.err == nil {
		return errors.New("idempotency: the outcome of the call has no error")
	}
	return o.err
}
