package policy

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

func TestRateText(t *testing.T) {
	for _, test := range []struct {
		text string
		want Rate
		ok   bool
	}{
		{"0", Rate{}, true},
		{"600/1m", Rate{Requests: 600, Period: time.Minute}, true},
		{"10/s", Rate{Requests: 10, Period: time.Second}, true},
		{"1/24h", Rate{Requests: 1, Period: 24 * time.Hour}, true},
		{"1000000/1s", Rate{Requests: 1_000_000, Period: time.Second}, true},
		{"1000001/1s", Rate{}, false},
		{"1/25h", Rate{}, false},
		{"1/999ms", Rate{}, false},
		{"0/1m", Rate{}, false},
		{"-1/1m", Rate{}, false},
		{"600", Rate{}, false},
		{"600/", Rate{}, false},
		{"", Rate{}, false},
	} {
		t.Run(test.text, func(t *testing.T) {
			var got Rate
			err := got.UnmarshalText([]byte(test.text))
			if (err == nil) != test.ok || got != test.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestQuota(t *testing.T) {
	q, err := newQuota("read", Rate{Requests: 2, Period: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	// The calls share the quota, in this order.
	for _, test := range []struct {
		name, caller, header string // header is the beginning of RateLimit
		wantErr              bool
	}{
		{"below", "a", `"read";r=1;t=`, false},
		{"at", "a", `"read";r=0;t=`, false},
		{"over", "a", `"read";r=0;t=`, true},
		{"another caller", "b", `"read";r=1;t=`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			response := headerOf()
			err := q.take(callerNamed(test.caller), response)
			reset, found := strings.CutPrefix(strings.Join(response.Values("RateLimit"), ", "), test.header)
			if seconds, err := strconv.Atoi(reset); !found || err != nil || seconds < 1 || seconds > 3600 {
				t.Errorf("RateLimit is %v, want %s and up to 3600 seconds", response.Values("RateLimit"), test.header)
			}
			if got := strings.Join(response.Values("RateLimit-Policy"), ", "); got != `"read";q=2;w=3600` {
				t.Errorf("RateLimit-Policy is %s", got)
			}
			if !test.wantErr {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, codes.ResourceExhausted, apierror.RateLimited)
			if delay := retryDelay(err); delay <= 0 || delay > 30*time.Minute || delay%time.Second != 0 {
				t.Errorf("retry delay %s", delay)
			}
		})
	}
}

func TestNoQuota(t *testing.T) {
	l, err := newLimiter(Rate{}, Rate{})
	if err != nil {
		t.Fatal(err)
	}
	response := headerOf()
	if err := l.limits(false).key.take(callerNamed("a"), response); err != nil || len(response) > 0 {
		t.Errorf("without a limit: %v, headers %v", err, response)
	}
}

// callerNamed returns the caller of an API key.
func callerNamed(key string) caller { return callerOf(key, netip.Addr{}) }

// retryDelay returns the delay in the RetryInfo of an error.
func retryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
