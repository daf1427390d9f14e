package ratelimit

import (
	"context"
	"crypto/sha256"
	_ "embed" // for gcra.lua
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// defaultTimeout is how long a request waits for Redis, and for a connection of the pool, unless
	// the URL has a read_timeout.
	defaultTimeout = 50 * time.Millisecond
	// dialTimeout is how long a connection to Redis may take, with TLS. Requests do not wait for it.
	dialTimeout = time.Second
	// probeInterval is the time between attempts to reach a Redis that does not answer.
	probeInterval = 250 * time.Millisecond
	// connectionsPerCPU bounds the connections. A script takes some ten microseconds of Redis, which
	// runs one at a time, so more would only wait there.
	connectionsPerCPU = 10
	// keyPrefix is the beginning of all keys.
	keyPrefix = "mesh-gateway:rate:"
)

//go:embed gcra.lua
var gcra string

// URL says where a Redis is, as redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// for TLS, or
// unix://. The options of go-redis may follow, such as ?read_timeout=100ms and ?pool_size=50. The zero
// URL is none.
type URL struct{ text string }

// UnmarshalText parses a URL. The error does not have its password.
func (u *URL) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*u = URL{}
		return nil
	}
	if _, err := options(string(text)); err != nil {
		return err
	}
	u.text = string(text)
	return nil
}

// IsZero reports whether there is no Redis.
func (u URL) IsZero() bool { return u.text == "" }

// String returns the URL without its password and its options.
func (u URL) String() string {
	parsed, err := url.Parse(u.text)
	if err != nil {
		return "redis://"
	}
	parsed.RawQuery = ""
	return parsed.Redacted()
}

// options returns the options of the client. The errors of net/url and of go-redis can have parts of
// the password.
func options(text string) (*redis.Options, error) {
	const want = "want redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS"
	if scheme, _, found := strings.Cut(text, "://"); !found || scheme != "redis" && scheme != "rediss" && scheme != "unix" {
		return nil, errors.New("not the URL of a Redis: " + want)
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, errors.New("not a valid URL of a Redis: " + want)
	}
	if o.PoolSize == 0 {
		o.PoolSize = connectionsPerCPU * runtime.GOMAXPROCS(0)
	}
	o.MinIdleConns = 1
	// A script that timed out may have run, so it is not repeated. Nor is a connection: that is what
	// probe does.
	o.MaxRetries, o.DialerRetries = -1, 1
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = defaultTimeout
	}
	o.DialTimeout, o.WriteTimeout, o.PoolTimeout = dialTimeout, o.ReadTimeout, o.ReadTimeout
	o.ContextTimeoutEnabled = true
	o.PipelinePoolSize = -1
	// Neither is known to Valkey and to all services that speak the protocol of Redis.
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, nil
}

// Redis is a Redis or Valkey that gateways share. Its database must be on one server, since the keys
// of a request are in different slots of a cluster.
//
// When it does not answer, it is left alone by requests, and probed in the background until it does.
type Redis struct {
	client *redis.Client
	script *redis.Script
	probe  *Limit
	logger *slog.Logger

	unavailable Unavailable
	timeout     time.Duration

	down      atomic.Bool
	uncounted atomic.Uint64

	// ctx is done when the Redis is closed.
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex // for closing and starting to probe
	probes sync.WaitGroup
}

// NewRedis returns the Redis at the URL, which must not be zero. It waits for the first answer for a
// moment. A Redis that does not answer is not an error. The caller closes it.
func NewRedis(u URL, unavailable Unavailable, logger *slog.Logger) (*Redis, error) {
	o, err := options(u.text)
	if err != nil {
		return nil, err
	}
	// The log of the library is a global variable and goes to stderr, a line for each failed
	// connection. The errors that it returns say the same.
	logging.Disable()
	r := &Redis{
		client: redis.NewClient(o), script: redis.NewScript(gcra), logger: logger,
		probe: NewLimit("probe", Rate{Requests: 1_000_000, Period: time.Second}), unavailable: unavailable, timeout: o.ReadTimeout,
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if err := r.reach(); err != nil {
		r.fail(err)
	}
	return r, nil
}

// Close closes the connections and waits for the probes.
func (r *Redis) Close() error {
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.probes.Wait()
	return r.client.Close()
}

// Up reports whether Redis has answered the last time.
func (r *Redis) Up() bool { return !r.down.Load() }

// Uncounted returns how often requests were not counted in Redis, because it did not answer.
func (r *Redis) Uncounted() uint64 { return r.uncounted.Load() }

// take runs the script. It reports false if Redis does not answer, without asking it if it did not
// answer before.
func (r *Redis) take(takes []Take, results []Result) (n int, ok bool) {
	if !r.down.Load() {
		n, err := r.run(takes, results)
		if err == nil {
			return n, true
		}
		r.fail(err)
	}
	r.uncounted.Add(1)
	return 0, false
}

func (r *Redis) run(takes []Take, results []Result) (n int, err error) {
	keys, args := make([]string, len(takes)), make([]any, 0, 2*len(takes))
	for i, t := range takes {
		keys[i] = keyOf(t)
		args = append(args, t.Limit.period, t.Limit.requests)
	}
	// Not that of the request: a client that goes away is no reason to think that Redis is down.
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	reply, err := r.script.Run(ctx, r.client, keys, args...).Int64Slice()
	if err != nil {
		return 0, err
	}
	const fields = 4
	if n = len(reply) / fields; n == 0 || n > len(takes) || len(reply)%fields != 0 {
		return 0, fmt.Errorf("the script replied with %d numbers for %d limits", len(reply), len(takes))
	}
	for i := range n {
		f := reply[fields*i:]
		results[i] = Result{
			Allowed: f[0] == 1, Remaining: int(f[1]), Full: time.Duration(f[2]) * time.Microsecond, Retry: time.Duration(f[3]) * time.Microsecond,
		}
	}
	return n, nil
}

// keyOf returns the key of a caller. Redis does not learn who it is: API keys and addresses are
// hashed. Addresses are few enough to be found by trying all.
func keyOf(t Take) string {
	hash := sha256.New()
	hash.Write([]byte(keyPrefix))
	hash.Write(t.Caller[:])
	var sum [sha256.Size]byte
	const enough = 18 // bytes, which are 24 characters
	return keyPrefix + t.Limit.Name + ":" + base64.RawURLEncoding.EncodeToString(hash.Sum(sum[:0])[:enough])
}

// fail records that Redis did not answer, and begins to probe it.
func (r *Redis) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil || !r.down.CompareAndSwap(false, true) {
		return
	}
	effect := map[Unavailable]string{
		Local: "requests are counted in the memory of this gateway", Allow: "rate limits are not enforced", Refuse: "requests are refused",
	}[r.unavailable]
	r.logger.Warn("Redis does not answer; until it does, "+effect, "error", err.Error())
	r.probes.Go(r.reconnect)
}

// reconnect probes Redis until it answers.
func (r *Redis) reconnect() {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-ticker.C:
		}
		if r.reach() == nil {
			r.down.Store(false)
			r.logger.Info("Redis answers again; requests are counted there")
			return
		}
	}
}

// reach connects to Redis if necessary, and runs the script as a request does: a server that cannot
// write, or that needs too long, is no help.
func (r *Redis) reach() error {
	ctx, cancel := context.WithTimeout(r.ctx, max(dialTimeout, r.timeout))
	defer cancel()
	if err := r.client.Ping(ctx).Err(); err != nil {
		return err
	}
	_, err := r.run([]Take{{Limit: r.probe}}, make([]Result, 1))
	return err
}
