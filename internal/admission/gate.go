package admission

import (
	"container/list"
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// unlimited is the limit of a gate through which all calls pass.
const unlimited = math.MaxInt64

// gate lets at most a number of calls in at a time. The others wait, and those of the first class go
// first. While there is no limit, it takes no lock.
type gate struct {
	inFlight atomic.Int64
	// limit is changed under the lock.
	limit atomic.Int64
	// rate is how many calls leave in a second, or 0 if that is not known.
	rate atomic.Int64
	// queued is the number of calls that wait. It is changed under the lock.
	queued [classes]atomic.Int64

	mu      sync.Mutex
	waiting [classes]list.List // of chan struct{}, which is closed to let the call in
	// saturated is when a call last had to wait.
	saturated time.Time
}

func newGate() *gate {
	g := new(gate)
	g.limit.Store(unlimited)
	return g
}

// Limit returns the limit, or 0 if there is none.
func (g *gate) Limit() int64 {
	if limit := g.limit.Load(); limit != unlimited {
		return limit
	}
	return 0
}

// full reports whether a call of the class would wait for longer than wait.
func (g *gate) full(class Class, wait time.Duration) bool {
	limit := g.limit.Load()
	if limit == unlimited || g.inFlight.Load() < limit {
		return false
	}
	if wait <= 0 {
		return true
	}
	var before int64
	for c := range class + 1 {
		before += g.queued[c].Load()
	}
	rate := g.rate.Load()
	return rate > 0 && float64(before) > float64(rate)*wait.Seconds()
}

// enter lets a call in. It waits for at most wait, and returns for how long. The error is errFull, or
// that of the context. leave must be called unless there is an error.
func (g *gate) enter(ctx context.Context, class Class, wait time.Duration) (waited time.Duration, err error) {
	if g.limit.Load() == unlimited {
		g.inFlight.Add(1)
		return 0, nil
	}
	if g.full(class, wait) {
		g.mu.Lock()
		g.saturated = time.Now()
		g.mu.Unlock()
		return 0, errFull
	}
	g.mu.Lock()
	if g.inFlight.Load() < g.limit.Load() && g.noneBefore(class) {
		g.inFlight.Add(1)
		g.mu.Unlock()
		return 0, nil
	}
	start := time.Now()
	if g.queue() == 0 && start.Sub(g.saturated) > calmTime {
		// The limit is that of an overload that has ended, and there were no calls to see it.
		g.limit.Store(unlimited)
		g.inFlight.Add(1)
		g.mu.Unlock()
		return 0, nil
	}
	g.saturated = start
	in := make(chan struct{})
	place := g.waiting[class].PushBack(in)
	g.queued[class].Add(1)
	g.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-in:
		return time.Since(start), nil
	case <-timer.C:
		err = errFull
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-in: // meanwhile
		return time.Since(start), nil
	default:
		g.waiting[class].Remove(place)
		g.queued[class].Add(-1)
		return time.Since(start), err
	}
}

func (g *gate) noneBefore(class Class) bool {
	for c := range class + 1 {
		if g.waiting[c].Len() > 0 {
			return false
		}
	}
	return true
}

// queue returns how many calls wait.
func (g *gate) queue() (n int64) {
	for class := range g.queued {
		n += g.queued[class].Load()
	}
	return n
}

// leave lets a call out, and the next one in.
func (g *gate) leave() {
	g.inFlight.Add(-1)
	if g.limit.Load() == unlimited {
		return
	}
	g.mu.Lock()
	g.admit()
	g.mu.Unlock()
}

// admit lets calls in up to the limit. It is called under the lock.
func (g *gate) admit() {
	for class := range g.waiting {
		for g.inFlight.Load() < g.limit.Load() {
			next := g.waiting[class].Front()
			if next == nil {
				break
			}
			g.waiting[class].Remove(next)
			g.queued[class].Add(-1)
			g.inFlight.Add(1)
			close(next.Value.(chan struct{}))
		}
	}
}

// set changes the limit.
func (g *gate) set(limit int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limit.Swap(limit) == unlimited {
		g.saturated = time.Now()
	}
	g.admit()
}

// waitedSince reports whether a call had to wait after t.
func (g *gate) waitedSince(t time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.saturated.After(t)
}
