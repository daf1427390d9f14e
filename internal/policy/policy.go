// Package policy decides whether a call may go ahead: the budget of its client
// address, its credentials, the budget of its API key, the streams that are open,
// and its deadline.
//
// It works on headers and an address and writes no answer. Every front (JSON over
// HTTP, gRPC, gRPC-Web, Connect) admits its calls here and writes the error in its
// own form.
package policy

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/netip"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// Limits are what a policy allows.
type Limits struct {
	// Read and Write are the budgets of one API key. A client address has four
	// times as much.
	Read, Write Rate
	// Streams is how many streams may be open at a time.
	Streams StreamLimits
	// Timeout is the longest that a unary call may take. It must be above 0.
	Timeout time.Duration
}

// Rules are what the policy needs to know about the method of a call. The zero
// Rules are those of a unary read that needs credentials.
type Rules struct {
	// Write calls have a budget of their own.
	Write bool
	// Public methods need no credentials.
	Public bool
	// Stream is set on methods that answer with a stream.
	Stream bool
}

// RulesOf returns the rules of a method of the contract.
func RulesOf(method *contract.Method) Rules {
	return Rules{Write: method.Write, Public: method.Public, Stream: method.Streams()}
}

// Call is a call as every front presents it to the policy.
type Call struct {
	Rules Rules
	// Header is the header of the request. Admit leaves the credentials in it in
	// one form: the key in X-Api-Key and no Authorization.
	Header http.Header
	// Answer is the header of the answer. Admit adds RateLimit and
	// RateLimit-Policy for each budget that the call used, also where it refuses
	// the call. Nil leaves them out.
	Answer http.Header
	// Address is the address of the client.
	Address netip.Addr
}

// Policy admits calls within its limits. It is safe for concurrent use.
type Policy struct {
	limiter *limiter
	streams *streams
	timeout time.Duration
}

// New returns a policy that counts in memory, from nothing.
func New(limits Limits) (*Policy, error) {
	limiter, err := newLimiter(limits.Read, limits.Write)
	if err != nil {
		return nil, err
	}
	return &Policy{limiter: limiter, streams: newStreams(limits.Streams), timeout: limits.Timeout}, nil
}

// Admit decides whether a call may go ahead. It returns the context for the call,
// with its deadline, and a function that must be called once when the call has
// ended. With an error that function is nil.
//
// The checks are made in this order, and the first that fails is the error, an
// [apierror.Error]: the budget of the address, the credentials, the budget of the
// key, the open streams, the deadline. The address comes first so that guessing
// keys is limited too.
func (p *Policy) Admit(ctx context.Context, c Call) (_ context.Context, release func(), err error) {
	budget := p.limiter.budget(c.Rules.Write)
	if err := budget.address.take(ctx, network(c.Address), c.Answer); err != nil {
		return nil, nil, err
	}
	key, err := authenticate(c.Header, c.Rules.Public)
	if err != nil {
		return nil, nil, err
	}
	caller := callerOf(key, c.Address)
	if err := budget.key.take(ctx, caller, c.Answer); err != nil {
		return nil, nil, err
	}
	leave := func() {}
	if c.Rules.Stream {
		if err := p.streams.enter(caller); err != nil {
			return nil, nil, err
		}
		leave = func() { p.streams.leave(caller) }
	}
	timeout, limited, err := deadline(c.Header, c.Rules.Stream, p.timeout)
	if err != nil {
		leave()
		return nil, nil, err
	}
	if !limited {
		return ctx, leave, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, func() { cancel(); leave() }, nil
}

// callerOf is the name under which a caller is counted: a hash of its key, since a
// key is kept nowhere, or without a key its network.
func callerOf(key string, address netip.Addr) string {
	if key == "" {
		return network(address)
	}
	sum := sha256.Sum256([]byte(key))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// network is the unit in which addresses are handed out: one IPv4 address, or
// the /64 of an IPv6 host, which owns all of it.
func network(address netip.Addr) string {
	if address.Is6() && !address.Is4In6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return address.String()
}
