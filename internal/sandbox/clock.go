package sandbox

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
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
	// maxBatch is how long the ticks of one commit may take. Other calls that write wait for it.
	maxBatch = 20 * time.Millisecond
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

// clock is the state of the clock and of what follows from the seed.
type clock struct {
	// Ticks have passed.
	Ticks uint64
	// Seed is what prices follow from.
	Seed uint64
	// Runs counts how often the file was opened again.
	Runs uint64
}

const clockName = "clock"

func (*clock) GetName() string     { return clockName }
func (*clock) GetOwner() string    { return "" }
func (*clock) GetOwners() []string { return nil }

func (m *mesh) clock(tx *store.Tx) (*clock, error) {
	now, ok := m.clocks.Get(tx, clockName)
	if !ok {
		return nil, errors.New("sandbox: there is no clock")
	}
	return now, nil
}

// manualTime is the time of the manual clock.
func (m *mesh) manualTime(tx *store.Tx) time.Time {
	start := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	now, err := m.clock(tx)
	if err != nil {
		return start
	}
	return start.Add(time.Duration(now.Ticks) * tick)
}

// step lets one tick pass. What cannot take its step stays as it is, and holds up nothing else. That
// is a fault of the sandbox, and it is reported.
func (m *mesh) step(tx *store.Tx) error {
	before, err := m.clock(tx)
	if err != nil {
		return err
	}
	now := *before
	now.Ticks++
	if err := m.clocks.Update(tx, &now); err != nil {
		return err
	}
	if now.Ticks%priceTicks == 0 {
		if err := m.ledger.MovePrices(tx, now.Seed, now.Ticks); err != nil {
			return err
		}
	}
	for _, t := range slices.Collect(m.transactions.Pending(tx)) {
		m.try(tx, t.GetName(), func() error { return m.advanceTransaction(tx, t) })
	}
	for _, order := range slices.Collect(m.orders.Pending(tx)) {
		m.try(tx, order.GetName(), func() error { return m.advanceOrder(tx, order) })
	}
	return nil
}

// try takes a step of one transaction or order.
func (m *mesh) try(tx *store.Tx, name string, do func() error) {
	if err := tx.Try(func() error { return recovered(do) }); err != nil {
		m.logger.Error("sandbox: a step failed", "name", name, "error", err)
	}
}

// recovered returns a panic as an error.
func recovered(do func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return do()
}

// run lets ticks pass at the pace of the clock until done is closed.
func (m *mesh) run(interval time.Duration, done <-chan struct{}) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var last string // what was reported last: a full disk is not reported at each tick
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			err := recovered(func() error { return m.db.Continue(m.step) })
			if err == nil {
				last = ""
			} else if err.Error() != last {
				last = err.Error()
				m.logger.Error("sandbox: the clock failed", "error", err)
			}
		}
	}
}

// advance lets ticks pass, in batches so that other calls need not wait for all of them.
func (m *mesh) advance(ticks int) error {
	for ticks > 0 {
		if err := m.db.Continue(func(tx *store.Tx) error {
			for began := time.Now(); ticks > 0 && time.Since(began) < maxBatch; ticks-- {
				if err := m.step(tx); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
