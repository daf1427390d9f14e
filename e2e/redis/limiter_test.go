package redis_test

import (
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/e2e/redis"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

// open returns a limiter in the Redis until the test ends.
func open(t testing.TB, server *redis.Server) *ratelimit.Limiter {
	t.Helper()
	var url ratelimit.URL
	if err := url.UnmarshalText([]byte(server.URL())); err != nil {
		t.Fatal(err)
	}
	shared, err := ratelimit.NewRedis(url, ratelimit.Refuse, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.Close(); err != nil {
			t.Error(err)
		}
	})
	return ratelimit.NewLimiter(shared)
}

func take(t testing.TB, limiter *ratelimit.Limiter, takes ...ratelimit.Take) []ratelimit.Result {
	t.Helper()
	results := make([]ratelimit.Result, len(takes))
	n, err := limiter.Take(takes, results)
	if err != nil {
		t.Fatal(err)
	}
	return results[:n]
}

// TestTheScriptCountsLikeTheMemory sends the same requests to both, at slightly different times.
func TestTheScriptCountsLikeTheMemory(t *testing.T) {
	shared, memory := open(t, redis.Start(t)), ratelimit.NewLimiter(nil)
	limit := func(name string, requests int) *ratelimit.Limit {
		return ratelimit.NewLimit(name, ratelimit.Rate{Requests: requests, Period: 24 * time.Hour})
	}
	takes := []ratelimit.Take{{Limit: limit("a", 11)}, {Limit: limit("b", 7)}, {Limit: limit("c", 9)}}
	for n := range 13 {
		got, want := take(t, shared, takes...), take(t, memory, takes...)
		if len(got) != len(want) {
			t.Fatalf("request %d: %d results, want %d", n, len(got), len(want))
		}
		for i := range got {
			for _, d := range []time.Duration{got[i].Full - want[i].Full, got[i].Retry - want[i].Retry} {
				if d.Abs() > time.Minute {
					t.Errorf("request %d, limit %d: %+v, want about %+v", n, i, got[i], want[i])
				}
			}
			if got[i].Allowed != want[i].Allowed || got[i].Remaining != want[i].Remaining {
				t.Errorf("request %d, limit %d: %+v, want %+v", n, i, got[i], want[i])
			}
		}
	}
}

// TestTheWholeQuotaAtOnce takes a rate whose interval is not a whole number of microseconds.
func TestTheWholeQuotaAtOnce(t *testing.T) {
	shared := open(t, redis.Start(t))
	limit, allowed := ratelimit.NewLimit("read", ratelimit.Rate{Requests: 613, Period: 24 * time.Hour}), 0
	for range 650 {
		if take(t, shared, ratelimit.Take{Limit: limit})[0].Allowed {
			allowed++
		}
	}
	if allowed != 613 {
		t.Errorf("%d requests were allowed, want 613", allowed)
	}
}

// TestStrangeValues has values in Redis that the script does not write, or not at this time.
func TestStrangeValues(t *testing.T) {
	server := redis.Start(t)
	shared, client := open(t, server), server.Client(t)
	limit := ratelimit.NewLimit("read", ratelimit.Rate{Requests: 2, Period: time.Hour})
	for _, test := range []struct {
		name, value string
		want        bool
	}{
		{"not a number", "x", true},
		{"in the past", "-1e15", true},
		{"far in the future, as after the clock was set back", "9e15", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			take(t, shared, ratelimit.Take{Limit: limit})
			keys, err := client.Keys(t.Context(), "*:read:*").Result()
			if err != nil || len(keys) != 1 {
				t.Fatalf("keys %v, %v", keys, err)
			}
			if err := client.Set(t.Context(), keys[0], test.value, 0).Err(); err != nil {
				t.Fatal(err)
			}
			got := take(t, shared, ratelimit.Take{Limit: limit})[0]
			if got.Allowed != test.want || got.Full > time.Hour || got.Retry > 30*time.Minute {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestKeysExpireWhenTheQuotaIsFull looks at what is kept.
func TestKeysExpireWhenTheQuotaIsFull(t *testing.T) {
	server := redis.Start(t)
	shared, client := open(t, server), server.Client(t)
	take(t, shared, ratelimit.Take{Limit: ratelimit.NewLimit("read", ratelimit.Rate{Requests: 60, Period: time.Hour}), Caller: ratelimit.Caller{'k', 'e', 'y'}})
	keys, err := client.Keys(t.Context(), "*:read:*").Result()
	if err != nil || len(keys) != 1 || strings.Contains(keys[0], "key") {
		t.Fatalf("keys %v, %v", keys, err)
	}
	if ttl, err := client.PTTL(t.Context(), keys[0]).Result(); err != nil || ttl <= 0 || ttl > time.Minute {
		t.Errorf("the key expires in %s, %v, want up to a minute", ttl, err)
	}
}

// BenchmarkTake counts requests against two limits, as every call does.
func BenchmarkTake(b *testing.B) {
	server := redis.Start(b)
	for _, test := range []struct {
		name    string
		limiter *ratelimit.Limiter
	}{
		{"memory", ratelimit.NewLimiter(nil)},
		{"redis", open(b, server)},
	} {
		rate := ratelimit.Rate{Requests: 1_000_000, Period: time.Second}
		takes := []ratelimit.Take{{Limit: ratelimit.NewLimit("address", rate)}, {Limit: ratelimit.NewLimit("key", rate)}}
		for _, callers := range []int{1, 16} {
			b.Run(test.name+"/callers="+strconv.Itoa(callers), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(callers)
				b.RunParallel(func(pb *testing.PB) {
					results := make([]ratelimit.Result, 2)
					for pb.Next() {
						if _, err := test.limiter.Take(takes, results); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
