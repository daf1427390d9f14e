package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/connectivity"
)

const (
	// outageWait is how old an outage is when reads no longer wait for its end.
	outageWait = 5 * time.Second
	// connectWait is how old an outage is when writes no longer wait for connections that are being
	// made: long enough for one that the upstream closed because of its age.
	connectWait = 500 * time.Millisecond
	// firstWait is how long a call waits for the first connection since the start. It is less than
	// the second in which a call to an upstream that was never reached is answered.
	firstWait = 800 * time.Millisecond
	// reconnectPause is the least time from one time that a connection is lost to the next time that
	// it connects again, for an upstream that accepts connections and closes them.
	reconnectPause = 100 * time.Millisecond
	// Calls that have waited are spread over time when a connection is ready again.
	spreadPerCall = 100 * time.Microsecond
	maxSpread     = 250 * time.Millisecond
)

// outage is the time in which no connection of a pool is ready. The pool's mutex guards it.
type outage struct {
	// reached is set once a connection has been ready.
	reached bool
	// since is when the last connection was lost, or zero.
	since time.Time
	// changed is closed when the state of a connection changes.
	changed chan struct{}
}

// broadcast wakes the calls that wait.
func (o *outage) broadcast() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// follow connects a connection again whenever it is lost, and reports its changes, until it is
// closed. It does not make the first connection.
func (p *Pool) follow(c *conn) {
	var connected time.Time
	for state := c.GetState(); state != connectivity.Shutdown; state = c.GetState() {
		p.mu.Lock()
		p.refresh()
		p.outage.broadcast()
		p.mu.Unlock()
		if state == connectivity.Idle && !connected.IsZero() && !c.retired.Load() {
			sleep(p.ctx, time.Until(connected.Add(reconnectPause)))
			c.Connect()
		}
		if state != connectivity.Idle {
			connected = time.Now()
		}
		if !c.WaitForStateChange(p.ctx, state) {
			return
		}
	}
}

func (p *Pool) anyReady() bool { return p.Connections(connectivity.Ready) > 0 }

// refresh records the begin or the end of an outage. p.mu must be held.
func (p *Pool) refresh() {
	switch {
	case p.anyReady():
		p.outage.reached, p.outage.since = true, time.Time{}
	case p.outage.reached && p.outage.since.IsZero():
		p.outage.since = time.Now()
	}
}

// errNotConnected is the cause of an error for a call that no connection was ready for.
var errNotConnected = errors.New("upstream: not connected")

// await waits until a connection is ready. It returns an error if ctx ends before, or if the call is
// not to wait any longer:
//
//   - Until the upstream has been reached for the first time, a call waits while a connection is
//     being made, but not after an attempt has failed, and for less than a second.
//   - In an outage, a read waits until the outage is 5 seconds old.
//   - A write does not wait once an attempt to connect again has failed, and in any case only until
//     the outage is half a second old.
func (p *Pool) await(ctx context.Context, reads bool) error {
	begin := time.Now()
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	p.Connect()
	var timer *time.Timer
	for waited := false; ; waited = true {
		p.mu.Lock()
		p.refresh()
		changed, until, isReady, outage := p.outage.changed, p.waitUntil(begin, reads), p.anyReady(), p.outage
		p.mu.Unlock()
		if isReady {
			if waited {
				p.spread(ctx)
			}
			return nil
		}
		left := time.Until(until)
		if left <= 0 {
			if outage.reached {
				return fmt.Errorf("%w for %s", errNotConnected, time.Since(outage.since))
			}
			return fmt.Errorf("%w since the start", errNotConnected)
		}
		if timer == nil {
			p.counts.waits.Add(1)
			timer = time.NewTimer(left)
			defer timer.Stop()
		} else {
			timer.Reset(left)
		}
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitUntil returns until when a call waits that began to wait at begin. p.mu must be held.
func (p *Pool) waitUntil(begin time.Time, reads bool) time.Time {
	n := len(*p.conns.Load())
	hopeless := p.Connections(connectivity.TransientFailure) == n
	switch {
	case p.closed:
		return begin
	case p.outage.reached && reads:
		return p.outage.since.Add(outageWait)
	case hopeless:
		return begin
	case p.outage.reached:
		return p.outage.since.Add(connectWait)
	default:
		return begin.Add(firstWait)
	}
}

// spread delays a call that has waited by a random time, so that not all that have waited are sent at
// the same moment. The more there are, the longer it is.
func (p *Pool) spread(ctx context.Context) {
	limit := min(time.Duration(p.waiting.Load())*spreadPerCall, maxSpread)
	sleep(ctx, rand.N(limit)) //nolint:gosec // it need not be unpredictable
}

// sleep returns after a time, or when ctx ends.
func sleep(ctx context.Context, delay time.Duration) {
	if delay <= 0 {
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// WaitUntilReady makes all connections connect and reports whether one of them is ready. It waits
// for that until ctx is done.
func (p *Pool) WaitUntilReady(ctx context.Context) bool {
	p.Connect()
	for {
		p.mu.Lock()
		changed, closed := p.outage.changed, p.closed
		p.mu.Unlock()
		if closed {
			return false
		}
		if p.anyReady() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
