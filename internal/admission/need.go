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
	current atomic.Pointer[needed] // nil if it is not known

	mu    sync.Mutex
	calls [needCalls]struct {
		at   time.Time
		took time.Duration
	}
	next, fast int
	// probed is when a write was last sent that seemed to be late, and refused when one was refused.
	probed, refused time.Time
}

// needed is how long a write takes, and until when that is known.
type needed struct {
	took  time.Duration
	until time.Time
}

// add adds a write that has ended.
func (n *need) add(now time.Time, took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fast++; took >= n.now()/2 || now.Sub(n.refused) > 2*probePeriod {
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
		n.current.Store(nil)
		return
	}
	slices.Sort(recent)
	n.current.Store(&needed{recent[int(needPart*float64(len(recent)-1))], now.Add(needTime)})
}

// now returns how long a write takes, or 0 if that is not known.
func (n *need) now() time.Duration {
	current := n.current.Load()
	if current == nil || time.Now().After(current.until) {
		return 0
	}
	return current.took
}

// probe reports whether a write is to be sent although it seems to be late. Otherwise it is refused.
func (n *need) probe() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if now.Sub(n.probed) >= probePeriod {
		n.probed = now
		return true
	}
	n.refused = now
	return false
}
