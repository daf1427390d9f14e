package middleware

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
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

// Limiter keeps the budgets of callers: those of reads and of writes are
// separate, and each is counted by API key and, wider, by client address.
type Limiter struct{ read, write budget }

type budget struct{ key, address *quota }

// NewLimiter returns a limiter that counts in memory, within a bound.
func NewLimiter(read, write Rate) (*Limiter, error) {
	var l Limiter
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

func (l *Limiter) of(method *contract.Method) budget {
	if method.Write {
		return l.write
	}
	return l.read
}

// ByAddress limits the calls of a client address. It stands before the check
// of credentials, so that guessing keys is limited too. It needs [ClientIP].
func (l *Limiter) ByAddress(method *contract.Method) func(http.Handler) http.Handler {
	return l.of(method).address.limit(func(r *http.Request) string {
		return network(ClientIPOf(r.Context()))
	})
}

// ByKey limits the calls of an API key, and those without one by address. It
// stands behind [Auth], which settles what the key is.
func (l *Limiter) ByKey(method *contract.Method) func(http.Handler) http.Handler {
	return l.of(method).key.limit(func(r *http.Request) string {
		if key := r.Header.Get("X-Api-Key"); key != "" {
			// The key itself is not kept.
			sum := sha256.Sum256([]byte(key))
			return base64.RawStdEncoding.EncodeToString(sum[:])
		}
		return network(ClientIPOf(r.Context()))
	})
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

// quota is one budget of every caller.
type quota struct {
	name    string
	rate    Rate
	limiter *throttled.GCRARateLimiterCtx
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
	return &quota{name: name, rate: rate, limiter: limiter}, nil
}

// limit refuses a caller over its budget with 429. The RateLimit and
// RateLimit-Policy fields (draft-ietf-httpapi-ratelimit-headers) tell of every
// budget that the request passed; t is the seconds until it is whole again.
func (q *quota) limit(caller func(*http.Request) string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if q == nil {
			return next
		}
		policy := fmt.Sprintf("%q;q=%d;w=%d", q.name, q.rate.Requests, int(q.rate.Period.Seconds()))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			limited, result, err := q.limiter.RateLimitCtx(r.Context(), caller(r), 1)
			if err != nil {
				apierror.Write(w, r, err)
				return
			}
			w.Header().Add("RateLimit-Policy", policy)
			w.Header().Add("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", q.name, result.Remaining, wholeSeconds(result.ResetAfter)))
			if limited {
				seconds := max(1, wholeSeconds(result.RetryAfter))
				w.Header().Set("Retry-After", strconv.Itoa(seconds))
				apierror.Write(w, r, apierror.New(codes.ResourceExhausted, apierror.RateLimited,
					fmt.Sprintf("Over the limit %s of %d requests in %s. Try again in %d s.", q.name, q.rate.Requests, q.rate.Period, seconds),
					&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(seconds) * time.Second)}))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// wholeSeconds rounds up: a client that waits as told must succeed.
func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
