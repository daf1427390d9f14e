// Package policy decides whether a call is admitted. It checks the operator's rules of access, the
// rate limit of the client address, the credentials, the rate limit of the API key, the number of
// open streams, the deadline, whether the gateway or the service is overloaded, and the memory that
// calls hold.
//
// It works on headers and an address and does not write responses, so that it does not depend on
// the protocol of the call (JSON over HTTP, gRPC, gRPC-Web or Connect).
package policy

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/netip"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/internal/admission"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

// Limits are the limits of a policy.
type Limits struct {
	// Read and Write are the rate limits of one API key. Those of a client address are four times
	// as high.
	Read, Write ratelimit.Rate
	// Limiter counts the requests. Nil counts them in memory.
	Limiter *ratelimit.Limiter
	// Streams is the maximum number of open streams.
	Streams StreamLimits
	// Timeout is the maximum duration of a unary call. It must be positive.
	Timeout time.Duration
	// Admission limits calls in an overload. It may be nil.
	Admission *admission.Control
	// Budget is the memory that calls may hold. It may be nil.
	Budget *budget.Budget
	// Access are the operator's rules. It may be nil.
	Access *access.Current
}

// Rules are the properties of a method that the policy depends on. The zero Rules are those of a
// unary read that requires credentials.
type Rules struct {
	// Write reports whether the method writes. Writes have their own rate limit.
	Write bool
	// Public reports whether the method requires no credentials.
	Public bool
	// Stream reports whether the method is server-streaming.
	Stream bool
	// RPC is the full name of the method. The rules of access and the sizes of its replies are found
	// by it. It is "" for requests to the gateway itself.
	RPC string
	// List reports whether the reply is a list, which may be large.
	List bool
	// Ticket reports whether the call is a request for a stream ticket. Those have a limit of their
	// own besides that of reads.
	Ticket bool
}

// RulesOf returns the rules of a method of the contract.
func RulesOf(method *contract.Method) Rules {
	return Rules{Write: method.Write, Public: method.Public, Stream: method.Streams(), RPC: method.Name(), List: hasList(method.Descriptor.Output())}
}

func hasList(message protoreflect.MessageDescriptor) bool {
	for i := range message.Fields().Len() {
		if field := message.Fields().Get(i); field.IsList() && field.Message() != nil {
			return true
		}
	}
	return false
}

// Call describes a call, independent of its protocol.
type Call struct {
	Rules Rules
	// Header is the header of the request. Admit moves the key to X-Api-Key and removes
	// Authorization.
	Header http.Header
	// ResponseHeader is the header of the response, or nil. Admit adds RateLimit and
	// RateLimit-Policy for each rate limit that it checked, even if it rejects the call.
	ResponseHeader http.Header
	// Address is the address of the client.
	Address netip.Addr
	// Caller, if it is not nil, is set to the SHA-256 of the API key once the credentials have been
	// checked. A public method that is called without a key leaves it as it is.
	Caller *[sha256.Size]byte
	// Body is the size of the request body in bytes, or negative if it is not known.
	Body int64
}

// Policy admits calls within limits. It is safe for concurrent use.
type Policy struct {
	limiter             *ratelimit.Limiter
	read, write, ticket quotas
	streams             *streams
	streamLimits        StreamLimits
	timeout             time.Duration
	control             *admission.Control
	budget              *budget.Budget
	access              *access.Current
}

// New returns a policy.
func New(limits Limits) *Policy {
	limiter := limits.Limiter
	if limiter == nil {
		limiter = ratelimit.NewLimiter(nil)
	}
	return &Policy{
		limiter: limiter, read: newQuotas("read", limits.Read), write: newQuotas("write", limits.Write), ticket: newQuotas("ticket", ticketRate()),
		streams: newStreams(), streamLimits: limits.Streams, timeout: limits.Timeout, control: limits.Admission, budget: limits.Budget,
		access: limits.Access,
	}
}

// WithLimits returns a policy with other limits that goes on with the counts of p. Streams that are
// open stay open, even if there are more of them than may be opened now. A caller that has used a
// part of a rate limit has used the same part of the new one.
func (p *Policy) WithLimits(limits Limits) *Policy {
	changed := New(limits)
	changed.streams = p.streams
	changed.read, changed.write, changed.ticket = p.read.withRate(limits.Read), p.write.withRate(limits.Write), p.ticket
	return changed
}

// OpenStreams returns the number of open streams.
func (p *Policy) OpenStreams() int { return p.streams.open() }

// Admit decides whether a call is admitted. It returns the context of the call, with its deadline,
// and a function that must be called once when the call has ended. If there is an error, the
// function is nil.
//
// Admit checks, in this order, the network of the address, the rate limit of the address, whether the
// method is served, the credentials, what the key may call, the rate limit of the key, the number of
// open streams, the deadline, an overload, and the memory. It returns the error of the first check
// that fails, an [apierror.Error]. The rate of the address comes before the key so that guessing keys
// is limited. In an overload it may wait ([admission.Control.Enter]). What the call may hold is in the
// context ([budget.Of]).
func (p *Policy) Admit(ctx context.Context, c Call) (_ context.Context, release func(), err error) {
	rules := p.access.Rules()
	if err := rules.Address(c.Address); err != nil {
		return nil, nil, err
	}
	key, unauthenticated := authenticate(c.Header, c.Rules.Public)
	network := networkOf(c.Address)
	by := callerOf(key, network)
	if c.Caller != nil && unauthenticated == nil && key != "" {
		*c.Caller = by
	}
	refusal := refuse(rules, c, key, by, unauthenticated)
	// The limits are checked together, which takes one round trip if they are in Redis. A call that is
	// refused counts for the address alone.
	if err := p.count(c, network, by, refusal == nil); err != nil {
		return nil, nil, err
	}
	if refusal != nil {
		return nil, nil, refusal
	}
	leave := func() {}
	if c.Rules.Stream {
		if err := p.streams.enter(by, p.streamLimits); err != nil {
			return nil, nil, err
		}
		leave = func() { p.streams.leave(by) }
	}
	timeout, limited, err := deadline(c.Header, c.Rules.Stream, p.timeout)
	if err != nil {
		leave()
		return nil, nil, err
	}
	if p.control != nil {
		waited, err := p.control.Enter(ctx, c.Rules.RPC, timeout)
		if err != nil {
			leave()
			return nil, nil, err
		}
		timeout -= waited
	}
	var lease *budget.Lease
	if p.budget != nil {
		lease, err = p.budget.Admit(ctx, budget.Call{
			Caller: budget.Caller(by), RPC: c.Rules.RPC, Write: c.Rules.Write, List: c.Rules.List, Stream: c.Rules.Stream, Body: c.Body,
		})
		if err != nil {
			p.left(c.Rules)
			leave()
			return nil, nil, err
		}
		ctx = lease
	}
	if !limited {
		return ctx, func() { lease.Release(); p.left(c.Rules); leave() }, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, func() { cancel(); lease.Release(); p.left(c.Rules); leave() }, nil
}

// left ends a call that the control admitted.
func (p *Policy) left(rules Rules) {
	if p.control != nil {
		p.control.Leave(rules.RPC)
	}
}

// refuse returns why a call is refused whatever its limits are: the method is not served, the
// credentials are not well-formed, or the key may not call the method. Nil means that it is not.
func refuse(rules *access.Rules, c Call, key string, by ratelimit.Caller, unauthenticated error) error {
	if err := rules.Method(c.Rules.RPC); err != nil {
		return err
	}
	if unauthenticated != nil || key == "" {
		return unauthenticated
	}
	return rules.Key(by, c.Rules.RPC, c.Address)
}

// callerOf returns who a call is counted for: an API key, of which only the hash is kept, or the
// network if the call has no key.
func callerOf(key string, network ratelimit.Caller) ratelimit.Caller {
	if key == "" {
		return network
	}
	return hashOf(key)
}

// networkOf returns the caller for the [Network] of an address.
func networkOf(address netip.Addr) (caller ratelimit.Caller) {
	if network := Network(address); network.IsValid() {
		bytes := network.As16()
		copy(caller[:], bytes[:])
	}
	return caller
}

// Network returns the first address of the network that is counted as one client: an IPv4 address,
// or the /64 of an IPv6 address, since one host usually owns all addresses of a /64.
func Network(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if address.Is6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return address
}
