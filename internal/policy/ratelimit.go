package policy

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

const (
	// addressFactor is the ratio of the limit of a client address to that of a key. An office with
	// one address may use several keys, but an attacker gains no more than this by making up keys.
	addressFactor = 4
	// addressSuffix is what the name of the limit of an address ends in.
	addressSuffix = "-address"
	// maxLimits is the maximum number of limits that a call is counted against.
	maxLimits = 4
)

// ticketRate limits the tickets of a key, and four times as many those of an address. A ticket lives
// for 30 seconds, so a key has at most 200 that are unused, of the 10,000 that a store keeps.
func ticketRate() ratelimit.Rate { return ratelimit.Rate{Requests: 100, Period: 30 * time.Second} }

// quota is a limit with what responses say about it.
type quota struct {
	*ratelimit.Limit

	// policy is the value of RateLimit-Policy, and prefix that of RateLimit up to the number of
	// remaining requests.
	policy, prefix string
	// refused counts the calls that were refused.
	refused *atomic.Uint64
}

// newQuota returns nil if the rate is unlimited.
func newQuota(name string, rate ratelimit.Rate, refused *atomic.Uint64) *quota {
	limit := ratelimit.NewLimit(name, rate)
	if limit == nil {
		return nil
	}
	return &quota{
		Limit:  limit,
		policy: fmt.Sprintf("%q;q=%d;w=%d", name, rate.Requests, int(rate.Period.Seconds())),
		prefix: strconv.Quote(name) + ";r=", refused: refused,
	}
}

// quotas are those of an API key and of a client address, nil if there is no limit.
type quotas struct {
	name         string
	key, address *quota
	// refused counts the refusals of key and address. It is there without a limit too, for there may
	// be one later.
	refused *[2]atomic.Uint64
}

func newQuotas(name string, rate ratelimit.Rate) quotas {
	return makeQuotas(name, rate, new([2]atomic.Uint64))
}

func makeQuotas(name string, rate ratelimit.Rate, refused *[2]atomic.Uint64) quotas {
	return quotas{name, newQuota(name, rate, &refused[0]), newQuota(name+addressSuffix, rate.Times(addressFactor), &refused[1]), refused}
}

// withRate returns quotas of another rate that go on with what callers have used, and with the counts
// of refusals.
func (q quotas) withRate(rate ratelimit.Rate) quotas {
	changed := makeQuotas(q.name, rate, q.refused)
	changed.key.keep(q.key)
	changed.address.keep(q.address)
	return changed
}

// keep takes over what callers have used of another quota.
func (q *quota) keep(from *quota) {
	if q != nil && from != nil {
		q.Keep(from.Limit)
	}
}

// count counts the call of a caller against the limits. Those of the key come after those of the
// address, and not at all if the call is refused in any case.
func (p *Policy) count(c Call, network, by ratelimit.Caller, admitted bool) error {
	var (
		counted [maxLimits]*quota
		takes   [maxLimits]ratelimit.Take
		results [maxLimits]ratelimit.Result
	)
	n := 0
	add := func(q *quota, caller ratelimit.Caller) {
		if q != nil {
			counted[n], takes[n] = q, ratelimit.Take{Limit: q.Limit, Caller: caller}
			n++
		}
	}
	rate := &p.read
	if c.Rules.Write {
		rate = &p.write
	}
	add(rate.address, network)
	if c.Rules.Ticket {
		add(p.ticket.address, network)
	}
	if admitted {
		add(rate.key, by)
		if c.Rules.Ticket {
			add(p.ticket.key, by)
		}
	}
	n, err := p.limiter.Take(takes[:n], results[:n])
	if err != nil {
		return apierror.New(codes.Unavailable, apierror.RateLimitUnavailable,
			"The gateway cannot count requests at the moment. Nothing was sent to the Mesh API. Try again later.").WithCause(err)
	}
	report(counted[:n], results[:n], c.ResponseHeader)
	// The last one is the only one that can be exceeded.
	if n > 0 && !results[n-1].Allowed {
		return counted[n-1].exceeded(results[n-1])
	}
	return nil
}

// report adds RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers) to response for
// each quota, with the remaining requests and the seconds until the quota is full again.
func report(counted []*quota, results []ratelimit.Result, response http.Header) {
	if response == nil || len(counted) == 0 {
		return
	}
	policies := slices.Grow(response[wire.RateLimitPolicyHeader], len(counted))
	limits := slices.Grow(response[wire.RateLimitHeader], len(counted))
	for i, q := range counted {
		var buffer [64]byte
		text := strconv.AppendInt(append(buffer[:0], q.prefix...), int64(results[i].Remaining), 10)
		text = strconv.AppendInt(append(text, ";t="...), int64(math.Ceil(results[i].Full.Seconds())), 10)
		policies, limits = append(policies, q.policy), append(limits, string(text))
	}
	response[wire.RateLimitPolicyHeader], response[wire.RateLimitHeader] = policies, limits
}

// exceeded returns the error for a call that exceeds the quota.
func (q *quota) exceeded(result ratelimit.Result) error {
	q.refused.Add(1)
	return rateLimited(fmt.Sprintf("The rate limit %q of %d requests in %s was exceeded.", q.Name, q.Rate.Requests, q.Rate.Period), result.Retry)
}

// rateLimited returns an error with a time to wait, which is rounded up, so that a client that waits
// for it succeeds.
func rateLimited(message string, retry time.Duration) error {
	seconds := max(1, int(math.Ceil(retry.Seconds())))
	return apierror.New(codes.ResourceExhausted, apierror.RateLimited,
		fmt.Sprintf("%s Nothing was sent to the Mesh API. Try again in %d seconds.", message, seconds),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(seconds) * time.Second)})
}

// RateLimit is what is known of a rate limit.
type RateLimit struct {
	// Name is the name in RateLimit-Policy.
	Name string
	// Refused returns how many calls it has refused. It is safe for concurrent use.
	Refused func() uint64
}

// RateLimits returns the rate limits, also those that are not enabled.
func (p *Policy) RateLimits() []RateLimit {
	var limits []RateLimit
	for _, q := range []quotas{p.read, p.write, p.ticket} {
		limits = append(limits, RateLimit{q.name, q.refused[0].Load}, RateLimit{q.name + addressSuffix, q.refused[1].Load})
	}
	return limits
}
