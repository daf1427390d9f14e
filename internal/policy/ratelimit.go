package policy

import (
	"fmt"
	"hash/maphash"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

const (
	// addressFactor is the ratio of the limit of a client address to that of a key. An office with
	// one address may use several keys, but an attacker gains no more than this by making up keys.
	addressFactor = 4
	// maxTracked is the maximum number of callers that each limit tracks. More callers evict those
	// that were least recently seen, whose quota then starts again.
	maxTracked = 65536
)

// Rate is a limit of requests in a period. The zero Rate is unlimited.
//
// The quota refills evenly (a token bucket, or GCRA): a caller that was idle may send Requests at
// once, and then one in each Period/Requests.
type Rate struct {
	Requests int
	Period   time.Duration
}

// UnmarshalText parses "N/period", such as 600/1m, or 0 for no limit. N is at most 1,000,000, and
// the period is from 1s to 24h.
func (r *Rate) UnmarshalText(text []byte) error {
	*r = Rate{}
	if string(text) == "0" {
		return nil
	}
	count, period, found := strings.Cut(string(text), "/")
	requests, err := strconv.Atoi(count)
	if !found || err != nil || requests < 1 || requests > 1_000_000 {
		return fmt.Errorf("%q is not a rate: want N/period with N from 1 to 1000000, such as 600/1m, or 0 for no limit", text)
	}
	if period != "" && (period[0] < '0' || period[0] > '9') {
		period = "1" + period // "10/s" is short for "10/1s"
	}
	duration, err := time.ParseDuration(period)
	if err != nil || duration < time.Second || duration > 24*time.Hour {
		return fmt.Errorf("%q is not a rate: the period must be from 1s to 24h, such as 1m", text)
	}
	*r = Rate{Requests: requests, Period: duration}
	return nil
}

// MarshalText returns the rate in the form that UnmarshalText parses.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Rate) String() string {
	if r.Requests == 0 {
		return "0"
	}
	return strconv.Itoa(r.Requests) + "/" + r.Period.String()
}

// limiter limits the rates of callers, separately for reads and writes.
type limiter struct{ read, write rateLimits }

// rateLimits are the quotas of an API key and of a client address, nil if there is no limit.
type rateLimits struct{ key, address *quota }

func newLimiter(read, write Rate) (*limiter, error) {
	var l limiter
	for _, b := range []struct {
		name  string
		limit Rate
		into  *rateLimits
	}{{"read", read, &l.read}, {"write", write, &l.write}} {
		if b.limit.Requests == 0 {
			continue
		}
		var err error
		if b.into.key, err = newQuota(b.name, b.limit); err != nil {
			return nil, err
		}
		wide := Rate{Requests: b.limit.Requests * addressFactor, Period: b.limit.Period}
		if b.into.address, err = newQuota(b.name+"-address", wide); err != nil {
			return nil, err
		}
	}
	return &l, nil
}

func (l *limiter) limits(write bool) rateLimits {
	if write {
		return l.write
	}
	return l.read
}

// quota counts the requests of each caller against a rate. Its memory is bounded.
type quota struct {
	name string
	rate Rate
	// shards hold the callers by a hash, so that callers do not wait for each other's lock.
	shards [shards]shard
	seed   maphash.Seed
	// policy is the value of RateLimit-Policy, and prefix that of RateLimit up to the number of
	// remaining requests.
	policy, prefix string
}

// shards is the number of shards of a quota.
const shards = 64

type shard struct {
	mu      sync.Mutex
	callers *simplelru.LRU[caller, *rate.Limiter]
}

func newQuota(name string, limit Rate) (*quota, error) {
	q := &quota{
		name: name, rate: limit, seed: maphash.MakeSeed(),
		policy: fmt.Sprintf("%q;q=%d;w=%d", name, limit.Requests, int(limit.Period.Seconds())),
		prefix: strconv.Quote(name) + ";r=",
	}
	for i := range q.shards {
		callers, err := simplelru.NewLRU[caller, *rate.Limiter](maxTracked/shards, nil)
		if err != nil {
			return nil, fmt.Errorf("rate limit %s: %w", name, err)
		}
		q.shards[i].callers = callers
	}
	return q, nil
}

// limiterOf returns the limiter of a caller, a full one if the caller is not tracked.
func (q *quota) limiterOf(c caller) *rate.Limiter {
	s := &q.shards[maphash.Comparable(q.seed, c)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.callers.Get(c)
	if !ok {
		found = rate.NewLimiter(q.perSecond(), q.rate.Requests)
		s.callers.Add(c, found)
	}
	return found
}

func (q *quota) perSecond() rate.Limit {
	return rate.Limit(float64(q.rate.Requests) / q.rate.Period.Seconds())
}

// take counts a call of the caller and returns an error if it exceeds the quota. It adds RateLimit
// and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers) to response, with the remaining
// requests and the seconds until the quota is full again.
func (q *quota) take(c caller, response http.Header) error {
	if q == nil {
		return nil
	}
	now := time.Now()
	limiter := q.limiterOf(c)
	allowed := limiter.AllowN(now, 1)
	remaining := max(0, limiter.TokensAt(now))
	if response != nil {
		full := (float64(q.rate.Requests) - remaining) / float64(q.perSecond())
		text := make([]byte, 0, len(q.prefix)+16)
		text = strconv.AppendInt(append(text, q.prefix...), int64(remaining), 10)
		text = strconv.AppendInt(append(text, ";t="...), int64(math.Ceil(full)), 10)
		response.Add(wire.RateLimitPolicyHeader, q.policy)
		response.Add(wire.RateLimitHeader, string(text))
	}
	if allowed {
		return nil
	}
	// Rounded up, so that a client that waits for this time succeeds.
	seconds := max(1, int(math.Ceil((1-remaining)/float64(q.perSecond()))))
	return apierror.New(codes.ResourceExhausted, apierror.RateLimited,
		fmt.Sprintf("The rate limit %q of %d requests in %s was exceeded. Nothing was sent to the Mesh API. Try again in %d seconds.", q.name, q.rate.Requests, q.rate.Period, seconds),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(seconds) * time.Second)})
}
