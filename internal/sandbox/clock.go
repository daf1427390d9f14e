package sandbox

import (
	"fmt"
	"time"
)

// Clock determines how time passes in a sandbox. Time passes in ticks. At each tick, transactions,
// transfers and orders take their next step, and orders are matched with the market. Prices change
// at every fourth tick.
type Clock string

const (
	// ClockReal has 4 ticks per second.
	ClockReal Clock = "real"
	// ClockFast has 200 ticks per second, for test suites.
	ClockFast Clock = "fast"
	// ClockManual advances only with [Sandbox.Advance], by one tick for each 250 ms. It starts on 1
	// January 2026. The same seed and calls produce the same responses.
	ClockManual Clock = "manual"
)

const (
	// tick is the duration of a tick of the manual clock.
	tick = 250 * time.Millisecond
	// priceTicks is the number of ticks between price changes.
	priceTicks = 4
	// MaxAdvance is the maximum duration of one call of [Sandbox.Advance].
	MaxAdvance = time.Hour
)

// UnmarshalText parses the name of a clock.
func (c *Clock) UnmarshalText(text []byte) error {
	switch clock := Clock(text); clock {
	case ClockReal, ClockFast, ClockManual:
		*c = clock
		return nil
	}
	return fmt.Errorf("%q is not a clock: want real, fast or manual", text)
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
