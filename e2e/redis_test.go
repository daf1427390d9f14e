package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/e2e/redis"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// behindProxy returns the headers of a caller behind a proxy at 127.0.0.1, with a key that consists of one
// repeated letter.
func behindProxy(letter, address string) http.Header {
	return http.Header{
		"X-Api-Key": {strings.Repeat(letter, 43)}, "X-Group": {"groups/01HZXJ5K8MNPQRSTVWXYZ01234"}, "X-Forwarded-For": {address},
	}
}

const anyGroup = "/v1/groups/01HZXJ5K8MNPQRSTVWXYZ01234"

// send sends GET requests to the programs in turn, a few at a time, and returns how many were
// answered with each status.
func send(t *testing.T, requests int, header http.Header, programs ...*program) map[int]int {
	t.Helper()
	const workers = 12
	var (
		next     atomic.Int64
		mu       sync.Mutex
		statuses = make(map[int]int)
		running  sync.WaitGroup
	)
	for range workers {
		running.Go(func() {
			for n := next.Add(1); n <= int64(requests); n = next.Add(1) {
				status, err := get(t.Context(), programs[int(n)%len(programs)].base+anyGroup, header)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return statuses
}

func get(ctx context.Context, url string, header http.Header) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	request.Header = header.Clone()
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// TestReplicasShareARateBudget sends more requests than a budget has to three gateways with one
// Redis. The budget refills so slowly that the time of the test does not matter much.
func TestReplicasShareARateBudget(t *testing.T) {
	server, upstream := redis.Start(t), meshtest.NewUpstream(t)
	const budget = 1000
	var replicas []*program
	for range 3 {
		replicas = append(replicas, start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--trusted-proxy", "127.0.0.1",
			"--redis", server.URL(), "--rate-limit-read", fmt.Sprintf("%d/1h", budget)))
	}
	for _, test := range []struct {
		name, address, keys string
		sent                int // with each key
		want                int
	}{
		{"of a key", "192.0.2.1", "a", 1800, budget},
		{"of an address", "192.0.2.2", "bcdefg", 800, 4 * budget},
	} {
		t.Run(test.name, func(t *testing.T) {
			began, admitted, refused := time.Now(), 0, 0
			for letter := range strings.SplitSeq(test.keys, "") {
				statuses := send(t, test.sent, behindProxy(letter, test.address), replicas...)
				admitted += statuses[http.StatusOK]
				refused += statuses[http.StatusTooManyRequests]
			}
			off := float64(admitted-test.want) / float64(test.want) * 100
			t.Logf("budget %d: %d admitted, %d refused in %s, %+.2f %%", test.want, admitted, refused, time.Since(began).Round(time.Millisecond), off)
			if off < -2 || off > 2 {
				t.Errorf("%d were admitted, want %d within 2 %%", admitted, test.want)
			}
			if sent := test.sent * len(test.keys); admitted+refused != sent {
				t.Errorf("%d answers, want %d", admitted+refused, sent)
			}
		})
	}

	redisClient := server.Client(t)
	keys, err := redisClient.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, key := range keys {
		if ttl, err := redisClient.PTTL(t.Context(), key).Result(); err != nil || ttl <= 0 && ttl != -2 || ttl > 61*time.Minute {
			t.Errorf("%s expires in %s, %v", key, ttl, err)
		}
		if !strings.HasPrefix(key, "mesh-gateway:rate:") || strings.Contains(key, "aaaaaaaa") || strings.Contains(key, "192.0.2") {
			t.Errorf("the key is %s", key)
		}
	}
}

// TestRedisIsLost kills Redis under load, and starts it again, empty.
func TestRedisIsLost(t *testing.T) {
	const budget, sent = 50, 200
	limited := map[int]int{http.StatusOK: budget, http.StatusTooManyRequests: sent - budget}
	for _, test := range []struct {
		mode   string
		during map[int]int // the answers while Redis is gone
	}{
		{"local", limited},
		{"allow", map[int]int{http.StatusOK: sent}},
		{"refuse", map[int]int{http.StatusServiceUnavailable: sent}},
	} {
		for _, fault := range []struct {
			name       string
			lose, back func(*redis.Server, testing.TB)
			after      map[int]int
		}{
			{"killed", (*redis.Server).Kill, (*redis.Server).Run, limited},
			{"silent", (*redis.Server).Pause, (*redis.Server).Continue, map[int]int{http.StatusTooManyRequests: sent}},
		} {
			t.Run(test.mode+", "+fault.name, func(t *testing.T) {
				server, upstream := redis.Start(t), meshtest.NewUpstream(t)
				p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--admin-listen", "127.0.0.1:0", "--trusted-proxy", "127.0.0.1",
					"--redis", server.URL(), "--redis-unavailable", test.mode, "--rate-limit-read", fmt.Sprintf("%d/24h", budget))
				stop := loadDuring(t, p)
				check := func(when string, want map[int]int) {
					t.Helper()
					got := send(t, sent, behindProxy("a", "192.0.2.1"), p)
					t.Logf("%s: %v", when, got)
					if !maps.Equal(got, want) {
						t.Errorf("%s the answers were %v, want %v", when, got, want)
					}
				}
				check("before", limited)
				fault.lose(server, t)
				p.stderr.Wait(t, "Redis does not answer")
				check("while Redis is "+fault.name, test.during)
				if a := p.call(t, http.MethodGet, anyGroup, behindProxy("a", "192.0.2.1"), ""); test.mode == "refuse" &&
					(a.header.Get("Retry-After") == "" || a.detail(t, "ErrorInfo")["reason"] != "RATE_LIMIT_UNAVAILABLE") {
					t.Errorf("%d %s", a.status, a.body)
				}
				metrics := string(p.admin(t).call(t, http.MethodGet, "/metrics", nil, "").body)
				if !strings.Contains(metrics, "\nmesh_gateway_redis_up 0\n") || strings.Contains(metrics, "\nmesh_gateway_redis_uncounted_total 0\n") {
					t.Error("the metrics do not show that Redis is gone")
				}
				fault.back(server, t)
				p.stderr.Wait(t, "Redis answers again")
				check("afterwards", fault.after)
				for status, n := range stop() {
					t.Logf("load: %d answers with %d", n, status)
					if _, expected := test.during[status]; !expected && limited[status] == 0 {
						t.Errorf("the load was answered with %d", status)
					}
				}
				log := p.stderr.String()
				for _, line := range []string{"Redis does not answer", "Redis answers again"} {
					if n := strings.Count(log, line); n != 1 {
						t.Errorf("%q was logged %d times", line, n)
					}
				}
				if strings.Contains(log, redis.Password) {
					t.Error("the password is in the log")
				}
			})
		}
	}
}

// loadDuring sends requests until the function that it returns is called, which returns the statuses
// of the answers.
func loadDuring(t *testing.T, p *program) (stop func() map[int]int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	statuses := make(map[int]int)
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			status, err := get(t.Context(), p.base+anyGroup, behindProxy("z", "192.0.2.9"))
			if err != nil {
				t.Error(err)
				return
			}
			statuses[status]++
		}
	})
	return func() map[int]int {
		cancel()
		running.Wait()
		return statuses
	}
}

// TestRedisIsDownAtTheStart starts a gateway before its Redis.
func TestRedisIsDownAtTheStart(t *testing.T) {
	server, upstream := redis.New(t), meshtest.NewUpstream(t)
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--redis", server.URL(), "--rate-limit-read", "5/24h")
	p.stderr.Wait(t, "Redis does not answer")
	if got := send(t, 10, behindProxy("a", "192.0.2.1"), p); got[http.StatusOK] != 5 || got[http.StatusTooManyRequests] != 5 {
		t.Errorf("without Redis: %v", got)
	}
	server.Run(t)
	p.stderr.Wait(t, "Redis answers again")
	if got := send(t, 10, behindProxy("a", "192.0.2.1"), p); got[http.StatusOK] != 5 || got[http.StatusTooManyRequests] != 5 {
		t.Errorf("with Redis: %v", got)
	}
}

// TestRedisWithAWrongPassword shows the reason, but not the password.
func TestRedisWithAWrongPassword(t *testing.T) {
	server := redis.Start(t)
	const wrong = "tr0ub4dor-and-3"
	p := start(t, "--sandbox", "--redis", strings.Replace(server.URL(), redis.Password, wrong, 1))
	if line := p.stderr.Wait(t, "Redis does not answer"); !strings.Contains(line, "WRONGPASS") {
		t.Errorf("%s", line)
	}
	if code, stdout, stderr := command(t, "serve", "--sandbox", "--redis", "redis://:"+wrong+"@localhost:port"); code != 2 || strings.Contains(stdout+stderr, wrong) {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
	if strings.Contains(p.stderr.String()+p.stdout.String(), wrong) {
		t.Error("the password is printed")
	}
}
