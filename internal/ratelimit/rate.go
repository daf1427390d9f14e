package ratelimit

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is a limit of requests in a period. The zero Rate is unlimited.
//
// The quota refills evenly (GCRA, the generic cell rate algorithm): a caller that was idle may send
// Requests at once, and then one in each Period/Requests.
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

// Times returns the rate with n times as many requests.
func (r Rate) Times(n int) Rate { return Rate{Requests: n * r.Requests, Period: r.Period} }

// take counts a request at the time now. full is the time at which the quota is full again, the
// "theoretical arrival time" of GCRA, and next is what it is after the request. All are nanoseconds
// since the same moment. gcra.lua has the same arithmetic.
func (r Rate) take(full, now float64) (next float64, result Result) {
	period := float64(r.Period)
	interval := period / float64(r.Requests)
	// A time in the future by more than the period means that the clock was set back.
	next = min(max(full, now), now+period)
	tolerance := interval / 1000 // of what rounding makes of the sum of many intervals
	if result.Allowed = next+interval <= now+period+tolerance; result.Allowed {
		next += interval
	} else {
		result.Retry = time.Duration(next + interval - period - now)
	}
	result.Remaining = int((now + period - next + tolerance) / interval)
	result.Full = time.Duration(next - now)
	return next, result
}
