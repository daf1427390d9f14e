package admission

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// needCalls is how many of the last writes are kept, and needTime for how long. Of fewer than
	// needLeast, nothing follows.
	needCalls = 32
	needTime  = 10 * time.Second
	needLeast = 8
	// needPart is the part of the writes that take at most what a write needs. With needLeast
	// writes, it leaves the slowest out, so that no single one decides.
	needPart = 0.9
	// probePeriod is how often a write is sent that seems to be late. Without any, nobody would
	// see that the upstream has become faster.
	probePeriod = 500 * time.Millisecond
	// After fastProbes writes in a row that took less than half of what a write needs, while others
	// are refused, the earlier ones are forgotten.
	fastProbes = 3
)

// need is how long the upstream takes for a write of one method.
type need struct {
	// current is the result, in nanoseconds, or 0 if it is not known. until is when it expires.
	current, until atomic.Int64
	probed         atomic.Int64
	// refused is when a write was last refused.
	refused atomic.Int64

	mu    sync.Mutex
	calls [needCalls]struct {
		at   time.Time
		took time.Duration
	}
	next, fast int
}

// add adds a write that has ended.
func (n *need) add(now time.Time, took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fast++; took >= n.now()/2 || now.UnixNano()-n.refused.Load() > int64(2*probePeriod) {
		n.fast = 0
	}
	if n.fast == fastProbes {
		clear(n.calls[:])
	}
	n.calls[n.next].at, n.calls[n.next].took = now, took
	n.next = (n.next + 1) % needCalls
	var all [needCalls]time.Duration
	recent := all[:0]
	for _, call := range n.calls {
		if now.Sub(call.at) < needTime {
			recent = append(recent, call.took)
		}
	}
	if len(recent) < needLeast {
		n.current.Store(0)
		return
	}
	slices.Sort(recent)
	n.current.Store(int64(recent[int(needPart*float64(len(recent)-1))]))
	n.until.Store(now.Add(needTime).UnixNano())
}

// now returns how long a write takes, or 0 if that is not known.
func (n *need) now() time.Duration {
	current := n.current.Load()
	if current == 0 || time.Now().UnixNano() > n.until.Load() {
		return 0
	}
	return time.Duration(current)
}

// probe reports whether a write is to be sent although it seems to be late. Otherwise it is refused.
func (n *need) probe() bool {
	now, last := time.Now().UnixNano(), n.probed.Load()
	if now-last >= int64(probePeriod) && n.probed.CompareAndSwap(last, now) {
		return true
	}
	n.refused.Store(now)
	return false
}
