// Package ratelimit counts the requests of callers against rates, in memory or in a Redis that
// several gateways share.
package ratelimit

import (
	"errors"
	"fmt"
	"time"
)

// Caller is who a request is counted for, such as the hash of an API key or an address.
type Caller [32]byte

// Limit is a rate that every caller has for itself. Limits are told apart by their names, also in
// Redis, so two gateways that share one must give a name the same rate.
type Limit struct {
	// Name is part of the keys in Redis and of the headers of responses.
	Name string
	// Rate must not be zero.
	Rate Rate

	memory memory
	// period and requests are the arguments of the script.
	period, requests any
}

// NewLimit returns a limit with no requests counted, or nil if the rate is zero, which is unlimited.
func NewLimit(name string, rate Rate) *Limit {
	if rate == (Rate{}) {
		return nil
	}
	return &Limit{Name: name, Rate: rate, memory: newMemory(), period: rate.Period.Microseconds(), requests: rate.Requests}
}

// Keep takes over what callers have used of a limit with the same name, whose rate may differ. Who has
// used half of one quota has used half of the other. In Redis it is so by itself. Keep must be called
// before the limit is used.
func (l *Limit) Keep(from *Limit) { l.memory = from.memory }

// Take is a request of a caller that is to be counted against a limit.
type Take struct {
	Limit  *Limit
	Caller Caller
}

// Result is what became of a [Take].
type Result struct {
	// Allowed reports whether the request was within the limit. If not, it was not counted.
	Allowed bool
	// Remaining is the number of requests that the caller could send at once.
	Remaining int
	// Full is the time until the caller has its whole quota.
	Full time.Duration
	// Retry is the time until a request is allowed again. It is zero if this one was.
	Retry time.Duration
}

// Unavailable is what becomes of requests while Redis does not answer.
type Unavailable string

// The values of [Unavailable].
const (
	// Local counts in memory: each gateway has a budget of its own, which is full when Redis fails.
	Local Unavailable = "local"
	// Allow allows all requests.
	Allow Unavailable = "allow"
	// Refuse refuses all requests.
	Refuse Unavailable = "refuse"
)

// UnmarshalText implements [encoding.TextUnmarshaler] for flags.
func (u *Unavailable) UnmarshalText(text []byte) error {
	switch v := Unavailable(text); v {
	case Local, Allow, Refuse:
		*u = v
		return nil
	}
	return fmt.Errorf("%q is not one of %s, %s and %s", text, Local, Allow, Refuse)
}

// ErrUnavailable is returned by [Limiter.Take] while Redis does not answer, if the limiter is to
// refuse requests then. Nothing was counted, as far as the limiter knows.
var ErrUnavailable = errors.New("ratelimit: the request could not be counted")

// Limiter counts requests. It is safe for concurrent use.
type Limiter struct {
	redis *Redis // nil for memory
}

// NewLimiter returns a limiter in Redis, or in memory if redis is nil.
func NewLimiter(redis *Redis) *Limiter { return &Limiter{redis} }

// Take counts a request against several limits, in their order. It stops at the first limit that is
// exceeded: the request stays counted for those before it, and is not counted for those after it.
// Take puts the results into the slice, which must be as long as the takes, and returns how many
// there are. There is none if Redis does not answer and the limiter allows all requests then.
//
// In Redis this is one round trip, and atomic. The error is [ErrUnavailable] or nil.
func (l *Limiter) Take(takes []Take, results []Result) (n int, err error) {
	if l.redis != nil && len(takes) > 0 {
		if n, ok := l.redis.take(takes, results); ok {
			return n, nil
		}
		switch l.redis.unavailable {
		case Allow:
			return 0, nil
		case Refuse:
			return 0, ErrUnavailable
		case Local:
		}
	}
	now := time.Now()
	for i, t := range takes {
		results[i] = t.Limit.memory.take(t.Limit.Rate, t.Caller, now)
		if !results[i].Allowed {
			return i + 1, nil
		}
	}
	return len(takes), nil
}

// TakeAlways is Take for one limit that is counted in memory if Redis does not answer, whatever the
// limiter does with requests then.
func (l *Limiter) TakeAlways(take Take) Result {
	var results [1]Result
	if l.redis != nil {
		if _, ok := l.redis.take([]Take{take}, results[:]); ok {
			return results[0]
		}
	}
	return take.Limit.memory.take(take.Limit.Rate, take.Caller, time.Now())
}
