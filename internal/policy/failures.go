package policy

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

// maxBlocked is the maximum number of networks that are known to be blocked.
const maxBlocked = 16384

// Failures limits the failed requests of a client address: those with an API key or a ticket that
// is not valid, and those for routes that do not exist. Other requests with an invented key cost
// nothing but the rate limit of the address, and requests for other routes not even that.
//
// An address that has spent its budget is blocked until a failed request would be within it again.
// Requests with a key that Mesh has accepted lately are served nevertheless, so that a careless
// client does not lock out the others behind its address.
//
// It is safe for concurrent use.
type Failures struct {
	limit   atomic.Pointer[ratelimit.Limit] // nil is none
	limiter *ratelimit.Limiter
	keys    *Keys

	// last is when the last network that is blocked will not be any more, or nil if none was. After that
	// there is nothing to look up.
	last    atomic.Pointer[time.Time]
	mu      sync.Mutex
	blocked map[ratelimit.Caller]time.Time
	refused atomic.Uint64
}

// NewFailures returns Failures that counts in the limiter. If Redis does not answer, it counts in
// memory, whatever becomes of other requests then. The zero rate is no limit.
func NewFailures(rate ratelimit.Rate, limiter *ratelimit.Limiter, keys *Keys) *Failures {
	f := &Failures{limiter: limiter, keys: keys, blocked: make(map[ratelimit.Caller]time.Time)}
	f.limit.Store(ratelimit.NewLimit("failures", rate))
	return f
}

// SetRate changes the rate. Addresses that are blocked stay so until the time that they were told.
func (f *Failures) SetRate(rate ratelimit.Rate) {
	limit := ratelimit.NewLimit("failures", rate)
	if before := f.limit.Load(); limit != nil && before != nil {
		limit.Keep(before)
	}
	f.limit.Store(limit)
}

// Check returns the error for a request of a blocked address. It costs next to nothing if no address
// is blocked. key returns the key of the request, or "".
func (f *Failures) Check(address netip.Addr, key func() string) error {
	if last := f.last.Load(); last == nil || !time.Now().Before(*last) {
		return nil
	}
	wait := f.wait(networkOf(address))
	if wait <= 0 || f.keys.Known(hashOf(key())) {
		return nil
	}
	f.refused.Add(1)
	return rateLimited("Too many requests from this address failed: their API keys or tickets were not valid, or there was no route for them.", wait)
}

// wait returns how long the network is blocked.
func (f *Failures) wait(network ratelimit.Caller) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	until, found := f.blocked[network]
	if !found {
		return 0
	}
	wait := time.Until(until)
	if wait <= 0 {
		delete(f.blocked, network)
	}
	return wait
}

// Count counts a failed request of the address.
func (f *Failures) Count(address netip.Addr) {
	limit := f.limit.Load()
	if limit == nil {
		return
	}
	network := networkOf(address)
	result := f.limiter.TakeAlways(ratelimit.Take{Limit: limit, Caller: network})
	if result.Allowed && result.Remaining > 0 {
		return
	}
	wait := result.Retry
	if result.Allowed {
		// This was the last. The next is within the budget when the quota has grown by a request.
		wait = result.Full - limit.Rate.Period + limit.Rate.Period/time.Duration(limit.Rate.Requests)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, found := f.blocked[network]; !found && len(f.blocked) >= maxBlocked {
		for other := range f.blocked { // any; it is blocked again when it fails again
			delete(f.blocked, other)
			break
		}
	}
	until := time.Now().Add(wait)
	f.blocked[network] = until
	if last := f.last.Load(); last == nil || until.After(*last) {
		f.last.Store(&until)
	}
}

// Refused returns how many requests of blocked addresses were refused.
func (f *Failures) Refused() uint64 { return f.refused.Load() }
