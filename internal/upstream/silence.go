package upstream

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	// callSilence is how long a call may be in flight on a connection on which nothing arrives,
	// before the connection is probed. HTTP/2 pings cannot do it: grpc-go sends none more often than
	// every 10 seconds, and servers punish less.
	callSilence = 2 * time.Second
	// streamSilence is the same if there are only open streams, which may have nothing to say.
	streamSilence = 15 * time.Second
	// probeTimeout is how long a probe may take. Any byte that arrives meanwhile is an answer.
	probeTimeout = 750 * time.Millisecond
	// watchInterval is how often the connections are looked at.
	watchInterval = 100 * time.Millisecond
	// maxLate is how late the gateway itself may be, because its goroutines wait for a CPU or because
	// it was stopped for a moment. If it is later, bytes may wait that it has not had the time to
	// read, and the connection is not to blame.
	maxLate = 250 * time.Millisecond
)

// errLeft is why a read ends whose connection is left.
var errLeft = errors.New("upstream: the connection was left, because it was silent")

// silence is what the watcher of a pool knows of a connection.
type silence struct {
	received uint64
	// since is since when calls are in flight and nothing has arrived.
	since   time.Time
	probed  time.Time
	probing atomic.Bool
}

// watch looks at the connections from time to time until the pool is closed.
func (p *Pool) watch() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-p.ctx.Done():
			return
		case <-ticker.C:
			now := time.Now()
			late := now.Sub(last) - watchInterval
			last = now
			for _, c := range p.all() {
				if c.silent(now, late) {
					c.silence.probed = now
					c.silence.probing.Store(true)
					p.running.Go(func() {
						defer c.silence.probing.Store(false)
						p.probe(c)
					})
				}
			}
			p.shrink(now)
			p.closeRetired()
		}
	}
}

// silent reports whether a connection is to be probed. late is by how much it is called later than it
// was to be.
func (c *conn) silent(now time.Time, late time.Duration) bool {
	s, received, calls := &c.silence, c.received.Load(), c.inFlight.Load()
	if received != s.received || calls == 0 || s.since.IsZero() || c.GetState() != connectivity.Ready {
		s.received, s.since = received, now
		return false
	}
	if late > maxLate {
		s.since = s.since.Add(late)
	}
	limit := callSilence
	if calls <= c.streams.Load() {
		limit = streamSilence
	}
	return now.Sub(s.since) >= limit && now.Sub(s.probed) >= limit && !s.probing.Load() && !c.isLeft()
}

// probe asks the upstream for its health, and leaves the connection if nothing arrives on it. Whatever
// the upstream answers will do, an error too.
func (p *Pool) probe(c *conn) {
	p.counts.probes.Add(1)
	begin := time.Now()
	received, sent := c.received.Load(), &call{Context: p.ctx}
	ctx, cancel := context.WithTimeout(sent, probeTimeout)
	defer cancel()
	_, _ = grpc_health_v1.NewHealthClient(c).Check(ctx, new(grpc_health_v1.HealthCheckRequest))
	if p.ctx.Err() != nil || c.received.Load() != received || c.GetState() != connectivity.Ready {
		return
	}
	if !sent.sent.Load() {
		return // it waited behind calls that take long
	}
	if time.Since(begin) > probeTimeout+maxLate {
		return // the next probe tells
	}
	p.leave(c)
}

// leave takes a connection out of the pool, and puts a new one in its place. Its reads are made again
// on others, and its streams end. Its writes wait for their deadline, and the connection is closed
// after the last of them.
func (p *Pool) leave(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if !c.retired.Load() {
		replacement, err := p.open()
		if err != nil {
			return // it stays until the next probe
		}
		replacement.Connect()
		p.replace(c, replacement)
	}
	p.counts.left.Add(1)
	p.refresh()
	p.outage.broadcast()
	c.leave()
}

// leave ends the reads and streams of the connection, now and in future, and reports its writes as
// lost.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
	for cancel := range c.reads {
		(*cancel)(errLeft)
	}
	for lost := range c.writes {
		(*lost)()
	}
}

func (c *conn) isLeft() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

// enterRead makes the connection end a read when it is left. exitRead undoes it.
func (c *conn) enterRead(cancel *context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		(*cancel)(errLeft)
	}
	c.reads[cancel] = struct{}{}
}

func (c *conn) exitRead(cancel *context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.reads, cancel)
}

// enterWrite makes the connection report that a write is lost. exitWrite undoes it.
func (c *conn) enterWrite(lost *func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		(*lost)()
		return
	}
	c.writes[lost] = struct{}{}
}

func (c *conn) exitWrite(lost *func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.writes, lost)
}
