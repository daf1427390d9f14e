// Package policy decides whether a call is admitted. It checks the rate limit of the client
// address, the credentials, the rate limit of the API key, the number of open streams, the deadline,
// and the memory that calls hold.
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

	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// Limits are the limits of a policy.
type Limits struct {
	// Read and Write are the rate limits of one API key. Those of a client address are four times
	// as high.
	Read, Write Rate
	// Streams is the maximum number of open streams.
	Streams StreamLimits
	// Timeout is the maximum duration of a unary call. It must be positive.
	Timeout time.Duration
	// Budget is the memory that calls may hold. It may be nil.
	Budget *budget.Budget
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
	// RPC is the full name of the method. The sizes of its replies are remembered by it.
	RPC string
	// List reports whether the reply is a list, which may be large.
	List bool
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
	// Body is the size of the request body in bytes, or negative if it is not known.
	Body int64
}

// Policy admits calls within limits. It is safe for concurrent use.
type Policy struct {
	limiter *limiter
	streams *streams
	timeout time.Duration
	budget  *budget.Budget
}

// New returns a policy that keeps its counts in memory. They start at zero.
func New(limits Limits) (*Policy, error) {
	limiter, err := newLimiter(limits.Read, limits.Write)
	if err != nil {
		return nil, err
	}
	return &Policy{limiter: limiter, streams: newStreams(limits.Streams), timeout: limits.Timeout, budget: limits.Budget}, nil
}

// OpenStreams returns the number of open streams.
func (p *Policy) OpenStreams() int { return p.streams.open() }

// Admit decides whether a call is admitted. It returns the context of the call, with its deadline,
// and a function that must be called once when the call has ended. If there is an error, the
// function is nil.
//
// Admit checks, in this order, the rate limit of the address, the credentials, the rate limit of
// the key, the number of open streams, the deadline, and the memory. It returns the error of the
// first check that fails, an [apierror.Error]. The address is checked first so that guessing keys is
// limited. What the call may hold is in the context ([budget.Of]).
func (p *Policy) Admit(ctx context.Context, c Call) (_ context.Context, release func(), err error) {
	limits := p.limiter.limits(c.Rules.Write)
	if err := limits.address.take(networkOf(c.Address), c.ResponseHeader); err != nil {
		return nil, nil, err
	}
	key, err := authenticate(c.Header, c.Rules.Public)
	if err != nil {
		return nil, nil, err
	}
	by := callerOf(key, c.Address)
	if err := limits.key.take(by, c.ResponseHeader); err != nil {
		return nil, nil, err
	}
	leave := func() {}
	if c.Rules.Stream {
		if err := p.streams.enter(by); err != nil {
			return nil, nil, err
		}
		leave = func() { p.streams.leave(by) }
	}
	timeout, limited, err := deadline(c.Header, c.Rules.Stream, p.timeout)
	if err != nil {
		leave()
		return nil, nil, err
	}
	var lease *budget.Lease
	if p.budget != nil {
		lease, err = p.budget.Admit(ctx, budget.Call{
			Caller: budget.Caller(by), RPC: c.Rules.RPC, Write: c.Rules.Write, List: c.Rules.List, Stream: c.Rules.Stream, Body: c.Body,
		})
		if err != nil {
			leave()
			return nil, nil, err
		}
		ctx = lease
	}
	if !limited {
		return ctx, func() { lease.Release(); leave() }, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, func() { cancel(); lease.Release(); leave() }, nil
}

// caller is who a call is counted for: an API key, of which only the hash is kept, or a network if
// the call has no key.
type caller [sha256.Size]byte

func callerOf(key string, address netip.Addr) caller {
	if key == "" {
		return networkOf(address)
	}
	return sha256.Sum256([]byte(key))
}

// networkOf returns the caller for an IPv4 address, or for the /64 of an IPv6 address, since one
// host usually owns all addresses of a /64.
func networkOf(address netip.Addr) (network caller) {
	if address.Is6() && !address.Is4In6() {
		if prefix, err := address.Prefix(64); err == nil {
			address = prefix.Addr()
		}
	}
	if address.IsValid() {
		bytes := address.As16()
		copy(network[:], bytes[:])
	}
	return network
}
