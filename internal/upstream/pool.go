package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// Pool is one or more connections to the same upstream, and implements [grpc.ClientConnInterface].
// An attempt of a call uses one of them from its beginning to its end. [Dial] returns a Pool.
//
// The pool has more connections than were asked for while the upstream allows so few calls at a time
// on each that all are full (SETTINGS_MAX_CONCURRENT_STREAMS of RFC 9113), and up to
// [MaxConnections]. Calls would otherwise wait behind open streams.
type Pool struct {
	// size is the number of connections without those for calls that did not fit.
	size int
	dial func(*conn) (*grpc.ClientConn, error)
	// conns are the connections for new calls. The slice is replaced, never changed.
	conns atomic.Pointer[[]*conn]

	budget retryBudget
	counts counts
	// waiting is the number of calls that wait for a connection.
	waiting atomic.Int64

	// ctx ends when the pool is closed, and with it what runs in the background.
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex // of all that follows, and of replacing conns
	closed bool
	// retired are connections that take no new calls. Each is closed when its last call has ended.
	retired []*conn
	outage  outage
	// slackSince is since when one connection less would do, or zero.
	slackSince time.Time
}

// conn is a connection of a pool. It connects again when it is lost.
type conn struct {
	*grpc.ClientConn
	// inFlight is the number of attempts that have begun and not ended. A stream counts for as long
	// as it is open. streams is how many of them are streams.
	inFlight, streams atomic.Int64
	// limit is the number of calls at a time that the upstream allows, or 0 if it sets no limit.
	limit atomic.Int64
	// received grows whenever bytes arrive.
	received atomic.Uint64
	// retired is set when the connection takes no new calls.
	retired atomic.Bool

	mu    sync.Mutex
	reads map[*context.CancelCauseFunc]struct{} // those in flight
	// writes are those in flight with a function of WithLost.
	writes map[*func()]struct{}
	left   bool

	silence silence
}

// counts are the counters of a pool.
type counts struct {
	retries, refusedRetries, waits, probes, left atomic.Uint64
}

func newPool(size int, dial func(*conn) (*grpc.ClientConn, error)) (*Pool, error) {
	ctx, stop := context.WithCancel(context.Background())
	p := &Pool{size: size, dial: dial, ctx: ctx, stop: stop, outage: outage{changed: make(chan struct{})}}
	p.budget.tokens.Store(budgetSize)
	p.conns.Store(new([]*conn))
	for range size {
		p.mu.Lock()
		_, err := p.add()
		p.mu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("upstream: %w", errors.Join(err, p.Close()))
		}
	}
	p.running.Go(p.watch)
	return p, nil
}

// open returns a new connection that is not in the pool yet. p.mu must be held.
func (p *Pool) open() (*conn, error) {
	c := &conn{reads: make(map[*context.CancelCauseFunc]struct{}), writes: make(map[*func()]struct{})}
	client, err := p.dial(c)
	if err != nil {
		return nil, err
	}
	c.ClientConn = client
	p.running.Go(func() { p.follow(c) })
	return c, nil
}

// add adds a connection to the pool. p.mu must be held.
func (p *Pool) add() (*conn, error) {
	c, err := p.open()
	if err != nil {
		return nil, err
	}
	conns := append(slices.Clone(*p.conns.Load()), c)
	p.conns.Store(&conns)
	return c, nil
}

// rank is how good a connection is for a call; lower is better.
type rank int

const (
	ready rank = iota
	// connecting is a connection on which a call waits until it is connected.
	connecting
	// full is a connection on which a call waits until another call has ended.
	full
	// failed is a connection on which a call fails at once, because the last attempt to connect has
	// failed.
	failed
	closed
)

func (c *conn) rank() rank {
	switch state := c.GetState(); {
	case state == connectivity.Shutdown:
		return closed
	case state == connectivity.TransientFailure:
		return failed
	case c.over(c.inFlight.Load() + 1):
		return full
	case state == connectivity.Ready:
		return ready
	default:
		return connecting
	}
}

// over reports whether a number of calls is too many for the connection. One less than the limit
// leaves room for a probe.
func (c *conn) over(calls int64) bool {
	limit := c.limit.Load()
	return limit > 0 && calls > max(limit-1, 1)
}

// pick returns the connection for a call. It is the one place that chooses.
//
// It takes the better of two random connections, that is, one that is ready, and of two such the one
// with fewer calls in flight ("power of two choices"): nearly as good as comparing all, but without
// all callers choosing the same one at the same moment. If neither is ready, it takes the best of
// all.
func (p *Pool) pick() (*conn, rank) {
	conns := *p.conns.Load()
	n := len(conns)
	if n == 1 {
		return conns[0], conns[0].rank()
	}
	first := rand.IntN(n)                      //nolint:gosec // it need not be unpredictable
	second := (first + 1 + rand.IntN(n-1)) % n //nolint:gosec // it need not be unpredictable
	best, rank := better(conns[first], conns[second])
	if rank == ready {
		return best, rank
	}
	for _, other := range conns {
		best, rank = better(best, other)
	}
	return best, rank
}

// better returns the connection of the two that is better for a call, and its rank.
func better(a, b *conn) (*conn, rank) {
	rankA, rankB := a.rank(), b.rank()
	if rankB < rankA || rankB == rankA && b.inFlight.Load() < a.inFlight.Load() {
		return b, rankB
	}
	return a, rankA
}

// acquire returns a connection on which the call is counted, which [conn.release] undoes. If none is
// ready, it waits for one as long as the call is to wait. If last is true, it has waited in vain, and
// the call will fail on the connection and say why.
func (p *Pool) acquire(ctx context.Context, reads bool) (c *conn, last bool, err error) {
	for {
		c, rank := p.pick()
		crowded := rank == full && !p.grow()
		switch {
		case rank != ready && !p.anyReady():
			if err := p.await(ctx, reads); err != nil {
				// A connection that has failed knows why.
				if c, rank = p.pick(); rank >= failed && c.enter(true) {
					return c, true, nil
				}
				return nil, true, err
			}
		case rank < failed && c.enter(crowded):
			return c, false, nil
		}
	}
}

// enter counts a call in. It returns false if the connection takes no more calls, or no more for now
// unless crowded is true.
func (c *conn) enter(crowded bool) bool {
	calls := c.inFlight.Add(1)
	// The connection is closed if it has retired and then has no calls.
	if c.retired.Load() || !crowded && c.over(calls) {
		c.release()
		return false
	}
	return true
}

func (c *conn) release() { c.inFlight.Add(-1) }

// grow adds a connection if all are full, and reports whether there is one to try now.
func (p *Pool) grow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := *p.conns.Load()
	for _, c := range conns {
		switch c.rank() {
		case ready, connecting:
			return true
		case failed, closed: // another would fail to connect too
			return false
		}
	}
	if p.closed || len(conns) >= MaxConnections {
		return false
	}
	c, err := p.add()
	if err != nil {
		return false
	}
	c.limit.Store(conns[0].limit.Load()) // until the upstream says its own
	c.Connect()
	return true
}

// shrinkAfter is how long a connection that was added must have been unnecessary.
const shrinkAfter = 30 * time.Second

// shrink retires a connection that was added, if the others have had ample room for its calls for
// some time.
func (p *Pool) shrink(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := *p.conns.Load()
	var calls, room int64
	for _, c := range conns {
		calls += c.inFlight.Load()
		room += c.limit.Load()
	}
	least := slices.MinFunc(conns, func(a, b *conn) int { return int(a.inFlight.Load() - b.inFlight.Load()) })
	switch room -= least.limit.Load(); {
	case len(conns) <= p.size || room > 0 && calls > room/2:
		p.slackSince = time.Time{}
	case p.slackSince.IsZero():
		p.slackSince = now
	case now.Sub(p.slackSince) >= shrinkAfter:
		p.slackSince = now
		p.replace(least, nil)
	}
}

// replace retires a connection of the pool. by takes its place unless it is nil. p.mu must be held.
func (p *Pool) replace(c, by *conn) {
	conns := slices.Clone(*p.conns.Load())
	at := slices.Index(conns, c)
	if by != nil {
		conns[at] = by
	} else {
		conns = slices.Delete(conns, at, at+1)
	}
	p.conns.Store(&conns)
	c.retired.Store(true)
	p.retired = append(p.retired, c)
}

// closeRetired closes the connections that have retired and have no calls any more.
func (p *Pool) closeRetired() {
	p.mu.Lock()
	var done []*conn
	p.retired = slices.DeleteFunc(p.retired, func(c *conn) bool {
		if c.inFlight.Load() > 0 {
			return false
		}
		done = append(done, c)
		return true
	})
	p.mu.Unlock()
	for _, c := range done {
		_ = c.Close() // it can only have been closed before
	}
}

// all returns the connections, the retired ones included.
func (p *Pool) all() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(*p.conns.Load(), p.retired)
}

// Connect makes all connections that are idle connect, and does not wait for them.
func (p *Pool) Connect() {
	for _, c := range *p.conns.Load() {
		c.Connect()
	}
}

// Connections returns how many connections for new calls are in the state.
func (p *Pool) Connections(state connectivity.State) int {
	n := 0
	for _, c := range *p.conns.Load() {
		if c.GetState() == state {
			n++
		}
	}
	return n
}

// Retired returns how many connections take no new calls and wait for their last call to end.
func (p *Pool) Retired() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int64(len(p.retired))
}

// InFlight returns how many calls are in flight, open streams included.
func (p *Pool) InFlight() int64 {
	var n int64
	for _, c := range p.all() {
		n += c.inFlight.Load()
	}
	return n
}

// Retries returns how many times a read was repeated.
func (p *Pool) Retries() uint64 { return p.counts.retries.Load() }

// RefusedRetries returns how many times a read was not repeated because too many were.
func (p *Pool) RefusedRetries() uint64 { return p.counts.refusedRetries.Load() }

// Waits returns how many calls have waited for a connection.
func (p *Pool) Waits() uint64 { return p.counts.waits.Load() }

// Probes returns how many times a connection was probed because it was silent.
func (p *Pool) Probes() uint64 { return p.counts.probes.Load() }

// Left returns how many connections were left because they stayed silent.
func (p *Pool) Left() uint64 { return p.counts.left.Load() }

// Close closes all connections. Calls in flight fail.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	conns := slices.Concat(*p.conns.Load(), p.retired)
	p.mu.Unlock()
	p.stop()
	var errs []error
	for _, c := range conns {
		// What has retired may be closed already.
		if err := c.Close(); !errors.Is(err, grpc.ErrClientConnClosing) { //nolint:staticcheck // Close returns it
			errs = append(errs, err)
		}
	}
	p.mu.Lock()
	p.outage.broadcast()
	p.mu.Unlock()
	p.running.Wait()
	return errors.Join(errs...)
}
