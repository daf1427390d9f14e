package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// Pool is one or more connections to the same upstream, and implements [grpc.ClientConnInterface]. A
// call uses one of them from its beginning to its end, retries included. [Dial] returns a Pool.
type Pool struct {
	conns []*conn
}

// conn is a connection of a pool.
type conn struct {
	*grpc.ClientConn
	// inFlight is the number of calls that have begun and not ended. A stream counts for as long as
	// it is open.
	inFlight atomic.Int64
}

// pick returns the connection for a call. It is the one place that chooses.
//
// It takes the better of two random connections, that is, one that is ready, and of two such the one
// with fewer calls in flight ("power of two choices"): nearly as good as comparing all, but without
// all callers choosing the same one at the same moment. If neither is ready, it takes the best of
// all. If none is ready, the call waits or fails as it does with a single connection.
func (p *Pool) pick() *conn {
	n := len(p.conns)
	if n == 1 {
		return p.conns[0]
	}
	first := rand.IntN(n)                      //nolint:gosec // it need not be unpredictable
	second := (first + 1 + rand.IntN(n-1)) % n //nolint:gosec // it need not be unpredictable
	best, rank := better(p.conns[first], p.conns[second])
	if rank == rankOf(connectivity.Ready) {
		return best
	}
	for _, other := range p.conns {
		best, _ = better(best, other)
	}
	return best
}

// better returns the connection of the two that is better for a call, and its rank. An idle
// connection connects in the background.
func better(a, b *conn) (*conn, int) {
	rankA, rankB := a.rank(), b.rank()
	if rankB < rankA || rankB == rankA && b.inFlight.Load() < a.inFlight.Load() {
		return b, rankB
	}
	return a, rankA
}

// rank returns the rank of the connection's state. It makes an idle connection connect. Otherwise a
// connection that the upstream closes, for example because of its age, would be avoided forever.
func (c *conn) rank() int {
	state := c.GetState()
	if state == connectivity.Idle {
		c.Connect()
	}
	return rankOf(state)
}

// rankOf returns the rank of a state for [Pool.pick]; lower is better. A call waits for a connection
// that connects. It fails at once on one that has failed to.
func rankOf(state connectivity.State) int {
	switch state {
	case connectivity.Ready:
		return 0
	case connectivity.Idle, connectivity.Connecting:
		return 1
	case connectivity.TransientFailure:
		return 2
	default: // shut down
		return 3
	}
}

// Invoke implements [grpc.ClientConnInterface].
func (p *Pool) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c := p.pick()
	c.inFlight.Add(1)
	defer c.inFlight.Add(-1)
	return c.Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements [grpc.ClientConnInterface].
func (p *Pool) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c := p.pick()
	c.inFlight.Add(1)
	// grpc-go calls it once however the stream ends: with io.EOF, with an error, by its context, or
	// because it could not be opened.
	ended := grpc.OnFinish(func(error) { c.inFlight.Add(-1) })
	return c.NewStream(ctx, desc, method, append(opts[:len(opts):len(opts)], ended)...)
}

// Connect makes all connections that are idle connect, and does not wait for them.
func (p *Pool) Connect() {
	for _, c := range p.conns {
		c.Connect()
	}
}

// WaitUntilReady makes all connections connect and reports whether one of them is ready. It waits
// for that until ctx is done.
func (p *Pool) WaitUntilReady(ctx context.Context) bool {
	p.Connect()
	if p.Connections(connectivity.Ready) > 0 {
		return true
	}
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	var ready atomic.Bool
	for _, c := range p.conns {
		waiting.Go(func() {
			if c.waitUntilReady(ctx) {
				ready.Store(true)
				cancel() // one is enough
			}
		})
	}
	waiting.Wait()
	cancel()
	return ready.Load()
}

func (c *conn) waitUntilReady(ctx context.Context) bool {
	for state := c.GetState(); state != connectivity.Ready; state = c.GetState() {
		if state == connectivity.Shutdown || !c.WaitForStateChange(ctx, state) {
			return false
		}
	}
	return true
}

// Connections returns how many connections are in the state.
func (p *Pool) Connections(state connectivity.State) int {
	n := 0
	for _, c := range p.conns {
		if c.GetState() == state {
			n++
		}
	}
	return n
}

// InFlight returns how many calls are in flight, open streams included.
func (p *Pool) InFlight() int64 {
	var n int64
	for _, c := range p.conns {
		n += c.inFlight.Load()
	}
	return n
}

// Close closes all connections. Calls in flight fail.
func (p *Pool) Close() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
