package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/tracing"
)

// Call is what is learned of a call of the API while it is served, for its log record and its audit
// line. It is also the context of the call, in which those who learn something find it ([CallOf]).
//
// The exported fields are set before the call is passed on, and only read after that.
type Call struct {
	context.Context //nolint:containedctx // it is a context

	// Caller is the hash of the API key. It is zero until the credentials have been checked, and
	// for calls without them.
	Caller Caller
	// Client is the address of the client.
	Client netip.Addr
	// Span is the span of the request, or nil if it is not sampled.
	Span *tracing.Request

	upstream atomic.Int64 // nanoseconds
	calls    atomic.Int32
	sent     atomic.Bool
	audited  atomic.Bool
}

// Caller is the SHA-256 of an API key, by which logs and the audit log name a caller.
type Caller [sha256.Size]byte

// String returns the hash in base64, as GetAPIUserByKeyHash takes it, or "" for the zero Caller.
func (c Caller) String() string {
	text, _ := c.MarshalText()
	return string(text)
}

// AppendText implements [encoding.TextAppender]. It appends what String returns.
func (c Caller) AppendText(text []byte) ([]byte, error) {
	if c == (Caller{}) {
		return text, nil
	}
	return base64.StdEncoding.AppendEncode(text, c[:]), nil
}

// MarshalText implements [encoding.TextMarshaler].
func (c Caller) MarshalText() ([]byte, error) { return c.AppendText(nil) }

type callKey struct{}

// NewCall returns a call whose context is derived from parent.
func NewCall(parent context.Context) *Call { return &Call{Context: parent} }

// Value implements [context.Context].
func (c *Call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// CallOf returns the call that the context belongs to, or nil.
func CallOf(ctx context.Context) *Call {
	call, _ := ctx.Value(callKey{}).(*Call)
	return call
}

// Called records a call to the upstream: how long it took, and whether it was sent.
func (c *Call) Called(took time.Duration, sent bool) {
	c.calls.Add(1)
	c.upstream.Add(int64(took))
	if sent {
		c.sent.Store(true)
	}
}

// Upstream returns how long the calls to the upstream took together, and whether there were any. That
// of a stream is the time until it was opened.
func (c *Call) Upstream() (took time.Duration, called bool) {
	return time.Duration(c.upstream.Load()), c.calls.Load() > 0
}

// Sent reports whether the upstream may have received the call.
func (c *Call) Sent() bool { return c.sent.Load() }

// SetAudited records that the audit log has a line for the call.
func (c *Call) SetAudited() { c.audited.Store(true) }

// Audited reports whether the audit log has a line for the call.
func (c *Call) Audited() bool { return c.audited.Load() }

// AddressText returns the address as text, or "" if it is not valid.
func AddressText(address netip.Addr) string {
	if !address.IsValid() {
		return ""
	}
	return address.String()
}
