package ratelimit_test

import (
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

func TestRateText(t *testing.T) {
	for _, test := range []struct {
		text string
		want ratelimit.Rate
		ok   bool
	}{
		{"0", ratelimit.Rate{}, true},
		{"600/1m", ratelimit.Rate{Requests: 600, Period: time.Minute}, true},
		{"10/s", ratelimit.Rate{Requests: 10, Period: time.Second}, true},
		{"1/24h", ratelimit.Rate{Requests: 1, Period: 24 * time.Hour}, true},
		{"1000000/1s", ratelimit.Rate{Requests: 1_000_000, Period: time.Second}, true},
		{"1000001/1s", ratelimit.Rate{}, false},
		{"1/25h", ratelimit.Rate{}, false},
		{"1/999ms", ratelimit.Rate{}, false},
		{"0/1m", ratelimit.Rate{}, false},
		{"-1/1m", ratelimit.Rate{}, false},
		{"600", ratelimit.Rate{}, false},
		{"600/", ratelimit.Rate{}, false},
		{"", ratelimit.Rate{}, false},
	} {
		t.Run(test.text, func(t *testing.T) {
			var got ratelimit.Rate
			err := got.UnmarshalText([]byte(test.text))
			if (err == nil) != test.ok || got != test.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
