package sandbox

import (
	"fmt"
	"time"
)

// Clock is how time passes in a sandbox. Time passes in ticks: with each, a
// transaction, a transfer or an order takes its next step and orders meet the
// market; with every fourth, prices move.
type Clock string

const (
	// ClockReal takes four ticks a second.
	ClockReal Clock = "real"
	// ClockFast takes two hundred ticks a second, for test suites.
	ClockFast Clock = "fast"
	// ClockManual stands still but for Advance: a tick is 250 ms, the first of
	// them on 1 January 2026, and the same seed and calls give the same answers.
	ClockManual Clock = "manual"
)

const (
	// tick is how much time a tick stands for on the manual clock.
	tick = 250 * time.Millisecond
	// priceTicks is how many ticks a price stands.
	priceTicks = 4
	// MaxAdvance is the most that one Advance takes.
	MaxAdvance = time.Hour
)

// UnmarshalText reads a clock's name.
func (c *Clock) UnmarshalText(text []byte) error {
	switch clock := Clock(text); clock {
	case ClockReal, ClockFast, ClockManual:
		*c = clock
		return nil
	}
	return fmt.Errorf("%q is no clock; there are real, fast and manual", text)
}

// interval is how long a tick takes; 0 where it does not come by itself.
func (c Clock) interval() time.Duration {
	switch c {
	case ClockReal:
		return tick
	case ClockFast:
		return 5 * time.Millisecond
	case ClockManual:
	}
	return 0
}

// clock tells the time. The store's lock guards it.
type clock struct {
	now   func() time.Time
	ticks uint64
}

func newClock(o options) *clock {
	c := &clock{now: o.now, ticks: o.ticks}
	if o.clock == ClockManual && o.now == nil {
		start := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
		c.now = func() time.Time { return start.Add(time.Duration(c.ticks) * tick) }
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c
}

// step lets one tick pass. The lock is held.
func (s *store) step() {
	s.clock.ticks++
	if s.clock.ticks%priceTicks == 0 {
		s.moveMarkets()
	}
	running := s.active
	s.active = nil
	for _, name := range running {
		if s.advance(name) {
			s.active = append(s.active, name)
		}
	}
}

// run lets ticks pass at the pace of the clock until done is closed.
func (s *store) run(interval time.Duration, done <-chan struct{}) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			s.mu.Lock()
			s.step()
			s.mu.Unlock()
		}
	}
}
