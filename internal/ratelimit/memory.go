package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// maxCallers is the maximum number of callers that a limit remembers in memory.
	maxCallers = 65536
	// shards is the number of parts of a memory, so that callers do not wait for each other's lock.
	shards = 64
	// sample is how many callers are compared to find one to forget.
	sample = 8
)

// memory remembers for each caller when its quota is full again. It is bounded: a new caller takes
// the place of another, of a sample the one whose quota is full first. A caller that is forgotten
// has a full quota.
type memory struct {
	began  time.Time
	seed   maphash.Seed
	shards *[shards]shard
}

type shard struct {
	mu sync.Mutex
	// full is in nanoseconds since began.
	full map[Caller]float64
}

func newMemory() memory {
	m := memory{began: time.Now(), seed: maphash.MakeSeed(), shards: new([shards]shard)}
	for i := range m.shards {
		m.shards[i].full = make(map[Caller]float64)
	}
	return m
}

func (m *memory) take(rate Rate, caller Caller, at time.Time) (result Result) {
	now := float64(at.Sub(m.began))
	s := &m.shards[maphash.Comparable(m.seed, caller)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	full, known := s.full[caller]
	if !known && len(s.full) >= maxCallers/shards {
		s.forget()
	}
	s.full[caller], result = rate.take(full, now)
	return result
}

// forget removes a caller. Maps are iterated in random order.
func (s *shard) forget() {
	var first Caller
	compared := 0
	for caller, full := range s.full {
		if compared == 0 || full < s.full[first] {
			first = caller
		}
		if compared++; compared == sample {
			break
		}
	}
	delete(s.full, first)
}
