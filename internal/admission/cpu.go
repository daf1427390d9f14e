package admission

import (
	"math"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// busyDelay is how long a goroutine waits for a CPU in an overload, and easyDelay without one.
	// An answer takes a few such waits, so that a health check stays below 100 ms.
	busyDelay = 20 * time.Millisecond
	easyDelay = 10 * time.Millisecond
	// delayPart is the part of the waits that are shorter.
	delayPart = 0.9
	// delayPeriod is how often it is measured, and delayWaits how many waits say something.
	delayPeriod = 50 * time.Millisecond
	delayWaits  = 20
	// leastPerCPU is the least limit for each CPU.
	leastPerCPU = 2
	// waitingPerCPU is how many goroutines wait for each CPU in an overload. If there are fewer and
	// they wait for long, it is other programs that have the CPUs, and a limit would not help.
	waitingPerCPU = 2
)

// cpu limits the calls in the gateway while its goroutines wait for a CPU. It begins when they have
// waited in two periods, since a short burst is over by then, such as that of clients that connect all
// at once. The limit falls while they wait, and rises while they do not: in proportion, and by double
// if the CPUs are idle. Calls that only wait for a slow client or upstream therefore do not keep
// others out. They count all the same: those that are in the upstream come back at any time, and many
// at once.
type cpu struct {
	gate     *gate
	schedule schedule
	done     atomic.Int64
	// next is when it is due to be measured, or nil at first. It is not in nanoseconds since 1970, since
	// the clock of the machine may be set back.
	next atomic.Pointer[time.Time]

	mu   sync.Mutex
	last time.Time
	// busy is set if goroutines waited for long in the last period.
	busy bool
}

// schedule returns how long goroutines waited for a CPU since it was last called, all but the longest
// waits, or 0 if hardly any are waiting now. known is false if too few have waited, because the CPUs
// were idle.
type schedule func() (delay time.Duration, known bool)

func newCPU(s schedule) *cpu { return &cpu{gate: newGate(), schedule: s} }

// adjust changes the limit if that is due. As long as there is a limit, it calls itself, since the
// calls that wait need it to rise while no others come.
func (c *cpu) adjust(now time.Time) {
	due := c.next.Load()
	if due != nil && now.Before(*due) || !c.next.CompareAndSwap(due, new(now.Add(delayPeriod))) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delay, known := c.schedule()
	elapsed := now.Sub(c.last)
	c.last = now
	done := c.done.Swap(0)
	if elapsed > longTime {
		c.busy = false // what was measured says nothing of now
	} else {
		c.set(delay, known, float64(done)/elapsed.Seconds())
	}
	if c.gate.limit.Load() != unlimited {
		time.AfterFunc(delayPeriod, func() { c.adjust(time.Now()) })
	}
}

// set changes the limit by the delay of goroutines and by how many calls ended in a second. It is
// called under the lock.
func (c *cpu) set(delay time.Duration, known bool, perSecond float64) {
	if rate := int64(perSecond); rate > 0 {
		// Smoothed, since calls may take longer than the period.
		c.gate.rate.Store((3*c.gate.rate.Load() + rate) / 4)
	}
	limit, inFlight := c.gate.limit.Load(), c.gate.inFlight.Load()
	least := int64(leastPerCPU * runtime.GOMAXPROCS(0))
	before := c.busy
	c.busy = known && delay > busyDelay
	switch {
	case c.busy && limit != unlimited:
		c.gate.set(max(least, limit*3/4))
	case c.busy && before && inFlight > least:
		c.gate.rate.Store(int64(perSecond))
		c.gate.set(max(least, inFlight*3/4))
	case limit != unlimited && (!known || delay < easyDelay):
		if known {
			limit += max(1, limit/8)
		} else {
			limit *= 2
		}
		if limit > 4*max(least, inFlight) {
			limit = unlimited
		}
		c.gate.set(limit)
	}
}

// readSchedule returns the schedule of this process, by the runtime's own measurements.
func readSchedule() schedule {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}, {Name: "/sched/goroutines/runnable:goroutines"}}
	var before []uint64
	return func() (time.Duration, bool) {
		metrics.Read(sample)
		histogram := sample[0].Value.Float64Histogram()
		var total uint64
		waits := make([]uint64, len(histogram.Counts))
		for i, count := range histogram.Counts {
			waits[i] = count
			if len(before) > 0 {
				waits[i] -= before[i]
			}
			total += waits[i]
		}
		first := len(before) == 0
		before = append(before[:0], histogram.Counts...)
		if first || total < delayWaits {
			return 0, false
		}
		if sample[1].Value.Uint64() < uint64(waitingPerCPU*runtime.GOMAXPROCS(0)) {
			return 0, true
		}
		above := uint64((1 - delayPart) * float64(total))
		for i := len(waits) - 1; i >= 0; i-- {
			if waits[i] > above {
				return seconds(histogram.Buckets[i]), true
			}
			above -= waits[i]
		}
		return 0, true
	}
}

func seconds(s float64) time.Duration {
	if math.IsInf(s, -1) || s < 0 {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
