package ratelimit_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

func caller(name string) ratelimit.Caller { return sha256.Sum256([]byte(name)) }

func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.NewLimiter(nil)
		limit := ratelimit.NewLimit("read", ratelimit.Rate{Requests: 2, Period: time.Minute})
		// The requests share the limit, in this order.
		for _, test := range []struct {
			name, caller string
			after        time.Duration
			want         ratelimit.Result
		}{
			{"below", "a", 0, ratelimit.Result{Allowed: true, Remaining: 1, Full: 30 * time.Second}},
			{"at", "a", 0, ratelimit.Result{Allowed: true, Full: time.Minute}},
			{"over", "a", 0, ratelimit.Result{Full: time.Minute, Retry: 30 * time.Second}},
			{"another caller", "b", 0, ratelimit.Result{Allowed: true, Remaining: 1, Full: 30 * time.Second}},
			{"over, later", "a", 20 * time.Second, ratelimit.Result{Full: 40 * time.Second, Retry: 10 * time.Second}},
			{"after the time to wait", "a", 10 * time.Second, ratelimit.Result{Allowed: true, Full: time.Minute}},
			{"after a long time", "a", time.Hour, ratelimit.Result{Allowed: true, Remaining: 1, Full: 30 * time.Second}},
		} {
			time.Sleep(test.after)
			var got [1]ratelimit.Result
			n, err := limiter.Take([]ratelimit.Take{{Limit: limit, Caller: caller(test.caller)}}, got[:])
			if n != 1 || err != nil || got[0] != test.want {
				t.Errorf("%s: %+v, %d, %v, want %+v", test.name, got[0], n, err, test.want)
			}
		}
	})
}

// TestTakeStopsAtTheFirstLimit has a limit that is exceeded between two that are not.
func TestTakeStopsAtTheFirstLimit(t *testing.T) {
	limiter := ratelimit.NewLimiter(nil)
	limits := make([]ratelimit.Take, 3)
	for i, requests := range []int{3, 1, 3} {
		limits[i] = ratelimit.Take{Limit: ratelimit.NewLimit("limit", ratelimit.Rate{Requests: requests, Period: time.Hour}), Caller: caller("a")}
	}
	results := make([]ratelimit.Result, 3)
	if n, _ := limiter.Take(limits, results); n != 3 || !results[2].Allowed {
		t.Fatalf("%d limits, %+v", n, results)
	}
	if n, _ := limiter.Take(limits, results); n != 2 || !results[0].Allowed || results[1].Allowed {
		t.Fatalf("%d limits, %+v", n, results)
	}
	for i, want := range map[int]int{0: 0, 2: 1} {
		if n, _ := limiter.Take(limits[i:i+1], results); n != 1 || results[0].Remaining != want {
			t.Errorf("limit %d: %+v, want %d remaining", i, results[0], want)
		}
	}
}

// TestTheWholeQuotaAtOnce takes rates whose intervals are not whole nanoseconds.
func TestTheWholeQuotaAtOnce(t *testing.T) {
	for _, rate := range []ratelimit.Rate{
		{Requests: 1, Period: 24 * time.Hour}, {Requests: 7, Period: time.Second}, {Requests: 600, Period: 7 * time.Second},
		{Requests: 399_989, Period: time.Second},
	} {
		t.Run(rate.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limiter, limit := ratelimit.NewLimiter(nil), ratelimit.NewLimit("read", rate)
				results, allowed := make([]ratelimit.Result, 1), 0
				for range rate.Requests + 10 {
					_, _ = limiter.Take([]ratelimit.Take{{Limit: limit}}, results)
					if results[0].Allowed {
						allowed++
					}
				}
				if allowed != rate.Requests || results[0].Remaining != 0 {
					t.Errorf("%d requests were allowed, and %d remain", allowed, results[0].Remaining)
				}
			})
		})
	}
}

// TestMemoryIsBounded has more callers than are remembered. Those that are forgotten have a full
// quota again, and most of those that were there last are not.
func TestMemoryIsBounded(t *testing.T) {
	const callers = 200_000
	limiter := ratelimit.NewLimiter(nil)
	limit := ratelimit.NewLimit("read", ratelimit.Rate{Requests: 1, Period: time.Hour})
	exceeded := func(i int) bool {
		var results [1]ratelimit.Result
		_, _ = limiter.Take([]ratelimit.Take{{Limit: limit, Caller: ratelimit.Caller{byte(i), byte(i >> 8), byte(i >> 16)}}}, results[:])
		return !results[0].Allowed
	}
	for i := range callers {
		exceeded(i)
	}
	known := 0
	for i := callers - 1; i >= callers-1000; i-- {
		if exceeded(i) {
			known++
		}
	}
	if known < 800 {
		t.Errorf("%d of the last 1000 callers are remembered", known)
	}
	known = 0
	for i := range 1000 {
		if exceeded(i) {
			known++
		}
	}
	if known > 200 {
		t.Errorf("%d of the first 1000 callers are remembered", known)
	}
}

func TestNoLimit(t *testing.T) {
	if limit := ratelimit.NewLimit("read", ratelimit.Rate{}); limit != nil {
		t.Errorf("%+v", limit)
	}
	if n, err := ratelimit.NewLimiter(nil).Take(nil, nil); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestURL(t *testing.T) {
	const password = "s3cret"
	for _, test := range []struct {
		text, want string
		ok         bool
	}{
		{"", "", true},
		{"redis://localhost:6379", "redis://localhost:6379", true},
		{"rediss://mesh:" + password + "@cache.example:6380/2?skip_verify=true", "rediss://mesh:xxxxx@cache.example:6380/2", true},
		{"unix://mesh:" + password + "@/run/redis.sock?db=1", "unix://mesh:xxxxx@/run/redis.sock", true},
		{"http://mesh:" + password + "@localhost", "", false},
		{"mesh:" + password + "@localhost:6379", "", false},
		{"redis://mesh:" + password + "@localhost:port", "", false},
		{"redis://mesh:" + password + "@localhost/database", "", false},
		{"redis://mesh:" + password + "%@localhost", "", false},
		{"redis://mesh:" + password + "/x@localhost", "", false},
		{"redis://localhost?password=" + password, "", false},
	} {
		t.Run(test.text, func(t *testing.T) {
			var got ratelimit.URL
			err := got.UnmarshalText([]byte(test.text))
			if (err == nil) != test.ok || got.String() != test.want || got.IsZero() != (test.want == "") {
				t.Errorf("%s, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), password) {
				t.Errorf("the error is %q", err)
			}
		})
	}
}

func BenchmarkTake(b *testing.B) {
	limiter := ratelimit.NewLimiter(nil)
	limit := ratelimit.NewLimit("read", ratelimit.Rate{Requests: 1_000_000, Period: time.Second})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var results [1]ratelimit.Result
		takes := []ratelimit.Take{{Limit: limit, Caller: caller("a")}}
		for pb.Next() {
			if _, err := limiter.Take(takes, results[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
