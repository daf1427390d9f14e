package policy_test

import (
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

// TestWithLimits changes the limits of a policy whose callers have used a part of them.
func TestWithLimits(t *testing.T) {
	hourly := func(n int) ratelimit.Rate { return ratelimit.Rate{Requests: n, Period: time.Hour} }
	limits := policy.Limits{Read: hourly(2), Write: hourly(2), Streams: policy.StreamLimits{PerKey: 2, All: 2}, Timeout: time.Minute}
	first := policy.New(limits)
	read, write := call(policy.Rules{}, "192.0.2.1", keyOf("a")), call(policy.Rules{Write: true}, "192.0.2.1", keyOf("a"))
	stream := call(policy.Rules{Stream: true}, "192.0.2.2", keyOf("b"))
	for _, c := range []policy.Call{read, read, write, write} {
		if _, _, err := first.Admit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	var leave func()
	for range 2 {
		var err error
		if _, leave, err = first.Admit(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}

	limits.Write, limits.Streams.PerKey, limits.Streams.All = hourly(20), 1, 2
	second := first.WithLimits(limits)
	refused := func(c policy.Call) bool {
		_, _, err := second.Admit(t.Context(), c)
		return apierror.ReasonOf(err) == string(apierror.RateLimited)
	}
	if !refused(read) {
		t.Error("the rate of reads is the same, and the caller has used all of it")
	}
	if !refused(write) {
		t.Error("the caller has used all of the rate of writes, so nothing is left of the new one")
	}
	for _, limit := range first.RateLimits() { // as the metrics read them
		if want := map[string]uint64{"read": 1, "write": 1}[limit.Name]; limit.Refused() != want {
			t.Errorf("%s has refused %d calls, want %d", limit.Name, limit.Refused(), want)
		}
	}
	if got := second.OpenStreams(); got != 2 {
		t.Errorf("%d streams are open, want the 2 that the first policy admitted", got)
	}
	stream.Header.Set("X-Api-Key", keyOf("c"))
	if !refused(stream) {
		t.Error("the streams of the first policy do not count")
	}
	leave() // of the first policy
	if refused(stream) {
		t.Error("the end of a stream of the first policy does not count")
	}
}
