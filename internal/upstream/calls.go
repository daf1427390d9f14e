package upstream

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// ReadAttempts is how often a read is sent at most, the first time included.
	ReadAttempts = 3
	// maxAttempts is how often a read is attempted at most, those times included on which it could
	// not be sent.
	maxAttempts = 10
	// The delay before a read is repeated is random, from 0 to retryDelay before the second attempt.
	// The limit doubles from one attempt to the next, up to maxRetryDelay.
	retryDelay    = 100 * time.Millisecond
	maxRetryDelay = time.Second
)

// retryBudget bounds how often reads are repeated, so that an outage does not multiply the load. It
// allows one retry for ten reads that succeed, and 1000 at once: those in flight on a connection that
// is lost.
//
// It is a token bucket without a clock (gRFC A6 has the same for one method).
type retryBudget struct{ tokens atomic.Int64 }

const (
	budgetSize = 1000 * retryCost
	retryCost  = 10 // in reads that succeed
)

// earn is called for a read that has succeeded. It writes nothing while the budget is full.
func (b *retryBudget) earn() {
	if b.tokens.Load() < budgetSize {
		b.tokens.Add(1)
	}
}

// spend reports whether a read may be repeated.
func (b *retryBudget) spend() bool {
	for {
		tokens := b.tokens.Load()
		if tokens < retryCost {
			return false
		}
		if b.tokens.CompareAndSwap(tokens, tokens-retryCost) {
			return true
		}
	}
}

// Invoke implements [grpc.ClientConnInterface].
//
// A write is sent at most once. If no connection is ready, it fails at once, except that it waits for
// half a second while a connection that was lost is made again for the first time.
//
// A read is repeated if its connection was lost, if the upstream reset it, or if it was answered with
// UNAVAILABLE and nothing before: it is sent up to [ReadAttempts] times, within its deadline, and
// within a budget of one retry for ten reads. If no connection is ready, it waits until the outage is
// 5 seconds old.
func (p *Pool) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	o, state := operation{method, args}, &call{Context: ctx}
	ctx = state
	for reads := o.reads(); ; {
		c, last, err := p.acquire(ctx, reads)
		switch {
		case err != nil:
			return notConnected(ctx, o, state, err)
		case reads:
			err = c.read(ctx, method, args, reply, opts)
		default:
			err = c.write(ctx, state, method, args, reply, opts)
		}
		if err == nil {
			if reads {
				p.budget.earn()
			}
			return nil
		}
		if last || !reads || !p.repeat(ctx, state, err) {
			return translate(ctx, o, state, err)
		}
	}
}

// read attempts a unary read on the connection, which has counted it.
func (c *conn) read(ctx context.Context, method string, args, reply any, opts []grpc.CallOption) error {
	ctx, cancel := context.WithCancelCause(ctx)
	c.enterRead(&cancel)
	err := c.Invoke(ctx, method, args, reply, opts...)
	c.exitRead(&cancel)
	cancel(nil)
	c.release()
	return err
}

type lostKey struct{}

// WithLost returns a context for a write. If the connection that carries the write is left, lost is
// called once: the write then only waits for its deadline, and no longer for the upstream.
func WithLost(ctx context.Context, lost func()) context.Context {
	return context.WithValue(ctx, lostKey{}, lost)
}

// write attempts a write on the connection, which has counted it.
func (c *conn) write(ctx context.Context, state *call, method string, args, reply any, opts []grpc.CallOption) error {
	lost, ok := ctx.Value(lostKey{}).(func())
	if ok {
		c.enterWrite(&lost)
	}
	err := c.Invoke(ctx, method, args, reply, opts...)
	if ok {
		c.exitWrite(&lost)
	}
	state.lost = err != nil && c.isLeft()
	c.release()
	return err
}

// notConnected returns the error of a call that no connection was ready for.
func notConnected(ctx context.Context, o operation, state *call, err error) error {
	code := codes.Unavailable
	if !errors.Is(err, errNotConnected) {
		code = status.FromContextError(err).Code()
	}
	return explain(ctx, o, state, code).WithCause(err)
}

// repeat reports whether a read is to be attempted again after an error, and waits until it is.
func (p *Pool) repeat(ctx context.Context, state *call, err error) bool {
	last := state.last.Load()
	if ctx.Err() != nil || !retryable(ctx, last, statusOf(err)) {
		return false
	}
	state.attempts++
	if last != nil && last.sent.Load() {
		if state.sends++; state.sends == ReadAttempts {
			return false
		}
		if !p.budget.spend() {
			p.counts.refusedRetries.Add(1)
			return false
		}
		p.counts.retries.Add(1)
	}
	if state.attempts == maxAttempts {
		return false
	}
	sleep(ctx, rand.N(min(retryDelay<<(state.attempts-1), maxRetryDelay))) //nolint:gosec // it need not be unpredictable
	if ctx.Err() != nil {
		return false
	}
	state.last.Store(nil) // the status of a call is that of its last attempt
	return true
}

// retryable reports whether an attempt of a read ended without an answer that the client should have.
func retryable(ctx context.Context, last *attempt, st *status.Status) bool {
	if sentByUpstream(ctx, last, st) {
		return st.Code() == codes.Unavailable && !last.header.Load()
	}
	switch st.Code() {
	case codes.Unavailable:
		return true
	case codes.Canceled: // by the upstream, or because the connection was left
		return true
	case codes.Internal:
		return strings.Contains(st.Message(), "RST_STREAM") // only the text shows it
	default:
		return false
	}
}

// NewStream implements [grpc.ClientConnInterface]. A stream with one request is repeated like a unary
// read until its first message has arrived. After that it ends with an error when its connection is
// lost or left.
func (p *Pool) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &stream{
		pool: p, desc: desc, operation: operation{method: method}, opts: opts, state: &call{Context: ctx},
	}
	s.repeatable = s.operation.reads() && desc.ServerStreams && !desc.ClientStreams
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

// stream is a stream over all of its attempts. It translates their errors.
type stream struct {
	pool      *Pool
	desc      *grpc.StreamDesc
	operation operation
	opts      []grpc.CallOption
	// state has the context of the caller, since that of the stream ends with the stream.
	state      *call
	repeatable bool

	// What follows is used by the goroutine that sends before the one that receives, except current.
	request  any
	closed   bool // for sending
	received bool // a message
	last     bool // whether the attempt is the last one

	mu      sync.Mutex
	current grpc.ClientStream
}

// open begins an attempt.
func (s *stream) open() error {
	for reads := s.operation.reads(); ; {
		c, last, err := s.pool.acquire(s.state, reads)
		if err != nil {
			return notConnected(s.state, s.operation, s.state, err)
		}
		ctx, cancel := context.Context(s.state), context.CancelCauseFunc(func(error) {})
		if reads {
			ctx, cancel = context.WithCancelCause(ctx)
			c.enterRead(&cancel)
		}
		c.streams.Add(1)
		ended := sync.OnceFunc(func() {
			c.exitRead(&cancel)
			cancel(nil)
			c.streams.Add(-1)
			c.release()
		})
		// grpc-go calls it however the stream ends: with io.EOF, with an error, or by its context.
		finish := grpc.OnFinish(func(error) { ended() })
		current, err := c.NewStream(ctx, s.desc, s.operation.method, append(s.opts[:len(s.opts):len(s.opts)], finish)...)
		if err == nil {
			s.mu.Lock()
			s.current, s.last = current, last
			s.mu.Unlock()
			return nil
		}
		ended()
		if last || !s.repeatable || !s.pool.repeat(s.state, s.state, err) {
			return s.translate(err)
		}
	}
}

func (s *stream) translate(err error) error { return translate(s.state, s.operation, s.state, err) }

// attempt returns the stream of the present attempt.
func (s *stream) attempt() grpc.ClientStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// RecvMsg implements [grpc.ClientStream].
func (s *stream) RecvMsg(message any) error {
	for {
		err := s.attempt().RecvMsg(message)
		if err == nil {
			if !s.received && s.repeatable {
				s.pool.budget.earn()
			}
			s.received = true
			return nil
		}
		//nolint:errorlint // grpc-go returns io.EOF itself
		if err == io.EOF || s.received || s.last || !s.repeatable || !s.pool.repeat(s.state, s.state, err) {
			return s.translate(err)
		}
		if err := s.reopen(); err != nil {
			return err
		}
	}
}

// reopen makes another attempt, and sends what was sent in the one before.
func (s *stream) reopen() error {
	if err := s.open(); err != nil {
		return err
	}
	if s.request != nil {
		if err := s.SendMsg(s.request); err != nil {
			return err
		}
	}
	if s.closed {
		return s.CloseSend()
	}
	return nil
}

// SendMsg implements [grpc.ClientStream].
func (s *stream) SendMsg(message any) error {
	if s.repeatable {
		s.request = message
	}
	return s.translate(s.attempt().SendMsg(message))
}

// CloseSend implements [grpc.ClientStream].
func (s *stream) CloseSend() error {
	s.closed = true
	return s.translate(s.attempt().CloseSend())
}

// Header implements [grpc.ClientStream]. It does not repeat the call.
func (s *stream) Header() (metadata.MD, error) {
	header, err := s.attempt().Header()
	return header, s.translate(err)
}

// Trailer implements [grpc.ClientStream].
func (s *stream) Trailer() metadata.MD { return s.attempt().Trailer() }

// Context implements [grpc.ClientStream].
func (s *stream) Context() context.Context { return s.attempt().Context() }
