package main

import (
	"errors"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// heapHeadroom is by how many bytes the heap may at least grow between two collections. Without
	// traffic 7 MB are in use, so that with GOGC=100 a busy gateway would collect every 10 MB.
	//
	// In relation to GOGC=100, medians of 7 rounds on two cores, small replies and streams take 0.79
	// to 0.93 of the CPU time, and up to 106 MiB of memory instead of 55. Lists of 1,000 accounts for
	// 128 clients take 0.97 and 225 MiB instead of 221. GOGC=400 saves as much CPU time (0.79 to 0.91
	// and 0.99), but needs 84 MiB for small replies and 438 MiB for lists.
	heapHeadroom = 64 << 20
	// memoryShare is the part of a container's memory that Go may use. The rest is for what the
	// runtime does not count, such as the pages of the program itself.
	memoryShare = 0.9
	// programMemory is what Go may use besides what calls in flight hold, in bytes: the program at
	// rest, what the budget does not count, and garbage. A heap that may double would hold twice the
	// budget.
	programMemory = 64 << 20
)

// tuneMemory sets GOGC and GOMEMLIMIT, each unless its environment variable is set. The limit is
// that of the container, and at most what calls in flight and the program need. stop undoes what
// tuneMemory does to GOGC.
func tuneMemory(lookup func(name string) (string, bool), limit memlimit.Provider, inFlight int64, logger *slog.Logger) (stop func()) {
	stop = func() {}
	if _, set := lookup("GOGC"); !set {
		stop = startCollector(heapHeadroom).stop
	}
	if _, set := lookup("GOMEMLIMIT"); !set {
		switch bytes, err := memlimit.ApplyRatio(limit, memoryShare)(); {
		case err == nil:
			debug.SetMemoryLimit(int64(min(bytes, math.MaxInt64)))
		case !errors.Is(err, memlimit.ErrNoLimit) && !errors.Is(err, memlimit.ErrNoCgroup) && !errors.Is(err, memlimit.ErrCgroupsNotSupported):
			logger.Warn("the memory limit of the container cannot be read; set GOMEMLIMIT to have the gateway stay within it", slog.Any("error", err))
		}
		debug.SetMemoryLimit(min(debug.SetMemoryLimit(-1), inFlight+programMemory))
	}
	logger.Debug("memory", slog.Int64("limit_bytes", debug.SetMemoryLimit(-1)))
	return stop
}

// collector sets GOGC after each collection, so that the next one is due when the heap has doubled
// or has grown by the headroom, whichever is more.
type collector struct {
	headroom uint64

	mu      sync.Mutex
	stopped bool
	percent int // as it is set
	before  int // as it was before the start
}

func startCollector(headroom uint64) *collector {
	c := &collector{headroom: headroom, percent: 100, before: debug.SetGCPercent(100)}
	c.adjust()
	return c
}

// adjust sets GOGC, and calls itself after the next collection.
func (c *collector) adjust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	if percent := gcPercent(scanned(), c.headroom); percent != c.percent {
		debug.SetGCPercent(percent)
		c.percent = percent
	}
	// The object is garbage at once, so its cleanup runs after the next collection.
	type object struct{ _ *byte }
	runtime.AddCleanup(new(object), (*collector).adjust, c)
}

// stop restores GOGC.
func (c *collector) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	debug.SetGCPercent(c.before)
}

// gcPercent returns the GOGC with which the heap grows by the headroom, and at least 100, the
// default. It is a percentage of what the last collection found in use, stacks and globals included.
func gcPercent(inUse, headroom uint64) int {
	// The runtime makes the first collection at 4 MiB with a GOGC of 100, and at more in proportion.
	const first = 4 << 20
	return int(max(100, headroom*100/max(inUse, first)))
}

// scanned returns how many bytes the last collection found in use.
func scanned() (total uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, sample := range samples {
		total += sample.Value.Uint64()
	}
	return total
}
