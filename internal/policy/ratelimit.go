package policy

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

const (
	// addressFactor widens the budget of a client address over that of a key:
	// an office behind one address holds several keys, yet invented keys gain
	// an attacker no more than this.
	addressFactor = 4
	// maxTracked bounds the memory of each budget: callers beyond it push out
	// those not seen for longest, whose budget then starts afresh.
	maxTracked = 65536
)

// Rate is a budget of requests over a period. The zero Rate is no limit.
//
// The budget refills evenly (GCRA): a caller that was idle may send Requests
// at once, and after that one each Period/Requests.
type Rate struct {
	Requests int
	Period   time.Duration
}

// UnmarshalText reads "N/period", such as 600/1m, or 0 for no limit.
func (r *Rate) UnmarshalText(text []byte) error {
	*r = Rate{}
	if string(text) == "0" {
		return nil
	}
	count, period, found := strings.Cut(string(text), "/")
	requests, err := strconv.Atoi(count)
	if !found || err != nil || requests < 1 || requests > 1_000_000 {
		return fmt.Errorf("%q is no rate: want N/period with N from 1 to 1000000, such as 600/1m, or 0 for no limit", text)
	}
	if period != "" && (period[0] < '0' || period[0] > '9') {
		period = "1" + period // "10/s" is how people say it
	}
	duration, err := time.ParseDuration(period)
	if err != nil || duration < time.Second || duration > 24*time.Hour {
		return fmt.Errorf("%q is no rate: the period must be from 1s to 24h, such as 1m", text)
	}
	*r = Rate{Requests: requests, Period: duration}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Rate) String() string {
	if r.Requests == 0 {
		return "0"
	}
	return strconv.Itoa(r.Requests) + "/" + r.Period.String()
}

// limiter keeps the budgets of callers: reads and writes have separate ones, and
// each is counted by API key and, wider, by client address.
type limiter struct{ read, write budget }

// budget holds the quotas of a kind of call, nil where there is no limit.
type budget struct{ key, address *quota }

func newLimiter(read, write Rate) (*limiter, error) {
	var l limiter
	for _, b := range []struct {
		name string
		rate Rate
		into *budget
	}{{"read", read, &l.read}, {"write", write, &l.write}} {
		if b.rate.Requests == 0 {
			continue
		}
		var err error
		if b.into.key, err = newQuota(b.name, b.rate); err != nil {
			return nil, err
		}
		wide := Rate{Requests: b.rate.Requests * addressFactor, Period: b.rate.Period}
		if b.into.address, err = newQuota(b.name+"-address", wide); err != nil {
			return nil, err
		}
	}
	return &l, nil
}

func (l *limiter) budget(write bool) budget {
	if write {
		return l.write
	}
	return l.read
}

// quota is one budget of every caller, kept in memory within a bound.
type quota struct {
	name    string
	rate    Rate
	limiter *throttled.GCRARateLimiterCtx
	// policy is the value of RateLimit-Policy, and left the part of RateLimit
	// before the requests that are left.
	policy, left string
}

func newQuota(name string, rate Rate) (*quota, error) {
	store, err := memstore.NewCtx(maxTracked)
	if err != nil {
		return nil, fmt.Errorf("rate limit %s: %w", name, err)
	}
	limiter, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{
		MaxRate:  throttled.PerDuration(rate.Requests, rate.Period),
		MaxBurst: rate.Requests - 1,
	})
	if err != nil {
		return nil, fmt.Errorf("rate limit %s: %w", name, err)
	}
	return &quota{
		name: name, rate: rate, limiter: limiter,
		policy: fmt.Sprintf("%q;q=%d;w=%d", name, rate.Requests, int(rate.Period.Seconds())),
		left:   strconv.Quote(name) + ";r=",
	}, nil
}

// take counts a call of the caller and refuses one over the budget. The answer's
// RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers) say what is
// left; t is the seconds until the budget is whole again.
func (q *quota) take(ctx context.Context, caller string, answer http.Header) error {
	if q == nil {
		return nil
	}
	limited, result, err := q.limiter.RateLimitCtx(ctx, caller, 1)
	if err != nil {
		return apierror.New(codes.Internal, apierror.Internal,
			"The gateway could not count this request. Nothing was sent to the Mesh API. Report it with the request id.").WithCause(err)
	}
	if answer != nil {
		answer.Add(wire.RateLimitPolicyHeader, q.policy)
		answer.Add(wire.RateLimitHeader, q.left+strconv.Itoa(result.Remaining)+";t="+strconv.Itoa(wholeSeconds(result.ResetAfter)))
	}
	if !limited {
		return nil
	}
	seconds := max(1, wholeSeconds(result.RetryAfter))
	return apierror.New(codes.ResourceExhausted, apierror.RateLimited,
		fmt.Sprintf("Over the limit %s of %d requests in %s. Try again in %d s.", q.name, q.rate.Requests, q.rate.Period, seconds),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(seconds) * time.Second)})
}

// wholeSeconds rounds up: a client that waits as told must succeed.
func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
