package upstream

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const healthMethod = "/grpc.health.v1.Health/Check"

// slow answers all calls but probes after a time.
func slow(after time.Duration, probe func(ctx context.Context, method string, stream grpc.ServerStream) error) func(context.Context, string, grpc.ServerStream) error {
	return func(ctx context.Context, method string, stream grpc.ServerStream) error {
		if method == healthMethod {
			return probe(ctx, method, stream)
		}
		sleep(ctx, after)
		return stayOpen(ctx, method, stream)
	}
}

// wantPool checks the pool after a connection was left.
func wantPool(t *testing.T, pool *Pool, left uint64, retired int64, connections int) {
	t.Helper()
	if pool.Left() != left || pool.Retired() != retired || pool.Connections(connectivity.Ready) != connections {
		t.Errorf("%d connections were left, %d are retired and %d ready; want %d, %d and %d",
			pool.Left(), pool.Retired(), pool.Connections(connectivity.Ready), left, retired, connections)
	}
}

func TestASilentConnectionIsLeft(t *testing.T) {
	t.Run("a read moves to another", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := serveLink(t, stayOpen)
			pool := connect(t, l, 2)
			time.Sleep(time.Hour)
			l.silence(1)
			var got result
			for got.took == 0 { // until one takes the silent connection
				got = <-begin(t, pool, readMethod, 30*time.Second)
			}
			if got.err != nil || got.took < 2500*time.Millisecond || got.took > 3*time.Second {
				t.Errorf("it took %s and ended with %v, want 2.5 to 3 s", got.took, got.err)
			}
			time.Sleep(time.Second)
			wantPool(t, pool, 1, 0, 2)
		})
	})
	t.Run("a write waits for its deadline, and other calls do not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := serveLink(t, stayOpen)
			pool := connect(t, l, 1)
			l.silence(0)
			ended := begin(t, pool, writeMethod, 10*time.Second)
			var lost atomic.Int32
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_ = pool.Invoke(WithLost(ctx, func() { lost.Add(1) }), writeMethod, new(emptypb.Empty), new(emptypb.Empty))
			}()
			time.Sleep(4 * time.Second)
			wantPool(t, pool, 1, 1, 1)
			if got := lost.Load(); got != 1 {
				t.Errorf("the write was reported as lost %d times, want once", got)
			}
			for _, method := range []string{writeMethod, readMethod} {
				if got := <-begin(t, pool, method, 10*time.Second); got.err != nil || got.took > 0 {
					t.Errorf("%s: it took %s and ended with %v", method, got.took, got.err)
				}
			}
			got := <-ended
			wantFault(t, got.err, codes.Unavailable, apierror.OutcomeUnknown, "may or may not")
			if got.took != 10*time.Second {
				t.Errorf("it took %s, want 10 s", got.took)
			}
			time.Sleep(time.Second)
			wantPool(t, pool, 1, 0, 1)
		})
	})
	t.Run("a stream ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := serveLink(t, stayOpen)
			pool := connect(t, l, 1)
			stream := openStream(t, t.Context(), pool)
			start := time.Now()
			l.silence(0)
			wantFault(t, stream.RecvMsg(new(emptypb.Empty)), codes.Unavailable, apierror.UpstreamUnreachable, "connection to the Mesh API was lost")
			if took := time.Since(start); took < streamSilence || took > streamSilence+2*time.Second {
				t.Errorf("it ended after %s, want a little more than %s", took, streamSilence)
			}
			time.Sleep(time.Second)
			wantPool(t, pool, 1, 0, 1)
		})
	})
	t.Run("a stream without a message moves to another", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := serveLink(t, stayOpen)
			pool := connect(t, l, 1)
			l.silence(0)
			openStream(t, t.Context(), pool)
			time.Sleep(time.Second)
			wantPool(t, pool, 1, 0, 1)
		})
	})
	t.Run("all calls wait for the new one if the network is silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := serveLink(t, stayOpen)
			pool := connect(t, l, 2)
			l.silence(0)
			l.set(drop)
			first, second := begin(t, pool, readMethod, 30*time.Second), begin(t, pool, readMethod, 30*time.Second)
			time.Sleep(5 * time.Second) // they are left, and the outage is about 1.5 s old
			l.set(accept)
			for _, ended := range []<-chan result{first, second} {
				if got := <-ended; got.err != nil || got.took > 9*time.Second {
					t.Errorf("it took %s and ended with %v", got.took, got.err)
				}
			}
		})
	})
}

func TestASlowUpstreamIsNotLeft(t *testing.T) {
	unimplemented := func(context.Context, string, grpc.ServerStream) error {
		return apierror.New(codes.Unimplemented, "NO", "no").GRPCStatus().Err()
	}
	for _, test := range []struct {
		name  string
		probe func(context.Context, string, grpc.ServerStream) error
	}{{"it is healthy", answerOnce}, {"it does not know health checks", unimplemented}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := serveLink(t, slow(20*time.Second, test.probe))
				pool := connect(t, l, 1)
				for _, method := range []string{readMethod, writeMethod} {
					if got := <-begin(t, pool, method, 30*time.Second); got.err != nil || got.took != 20*time.Second {
						t.Errorf("it took %s and ended with %v", got.took, got.err)
					}
				}
				wantPool(t, pool, 0, 0, 1)
				if got := pool.Probes(); got < 10 || got > 20 {
					t.Errorf("%d probes in 40 s, want about one in 2 s", got)
				}
			})
		})
	}
}

// TestQuietStreamsAreProbedRarely has a stream without messages for a while.
func TestQuietStreamsAreProbedRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serveLink(t, slow(0, answerOnce))
		pool := connect(t, l, 1)
		ctx, cancel := context.WithCancel(t.Context())
		openStream(t, ctx, pool)
		time.Sleep(10 * time.Minute)
		if got := pool.Probes(); got < 30 || got > 40 {
			t.Errorf("%d probes in 10 minutes, want about one in %s", got, streamSilence)
		}
		cancel()
		synctest.Wait()
		before := pool.Probes()
		time.Sleep(10 * time.Minute)
		if got := pool.Probes(); got != before {
			t.Errorf("%d probes without calls", got-before)
		}
		wantPool(t, pool, 0, 0, 1)
	})
}

// TestAProbeThatCannotBeSent fills a connection with calls that take long, on one that allows only
// one call at a time.
func TestAProbeThatCannotBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serveLink(t, slow(20*time.Second, answerOnce), grpc.MaxConcurrentStreams(1))
		pool := connect(t, l, 1)
		if got := <-begin(t, pool, readMethod, 30*time.Second); got.err != nil || got.took != 20*time.Second {
			t.Errorf("it took %s and ended with %v", got.took, got.err)
		}
		wantPool(t, pool, 0, 0, 1)
	})
}

func TestThePoolGrowsAndShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serveLink(t, stayOpen, grpc.MaxConcurrentStreams(10))
		pool := connect(t, l, 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 100 {
			openStream(t, ctx, pool)
		}
		for _, method := range []string{readMethod, writeMethod} {
			if got := <-begin(t, pool, method, 30*time.Second); got.err != nil || got.took > time.Second {
				t.Errorf("%s beside 100 streams: it took %s and ended with %v", method, got.took, got.err)
			}
		}
		// One call less than the limit leaves room for a probe.
		if got := pool.Connections(connectivity.Ready); got != 12 {
			t.Errorf("%d connections for 100 streams, want 12 with 9 each", got)
		}
		time.Sleep(5 * time.Minute)
		if got := pool.Connections(connectivity.Ready); got != 12 {
			t.Errorf("%d connections for 100 streams after a time, want 12", got)
		}
		cancel()
		time.Sleep(10 * time.Minute)
		wantPool(t, pool, 0, 0, 2)
	})
}

// TestThePoolIsBounded opens more streams than all connections may have.
func TestThePoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serveLink(t, stayOpen, grpc.MaxConcurrentStreams(2))
		pool := connect(t, l, 2)
		for range MaxConnections {
			openStream(t, t.Context(), pool)
		}
		got := <-begin(t, pool, writeMethod, time.Second)
		if got.err != nil || pool.Connections(connectivity.Ready) != MaxConnections {
			t.Errorf("with the room for probes: %v, over %d connections", got.err, pool.Connections(connectivity.Ready))
		}
	})
}

// TestAReadOnAConnectionThatIsLeft begins a read at the moment at which its connection is left.
func TestAReadOnAConnectionThatIsLeft(t *testing.T) {
	c := &conn{reads: make(map[*context.CancelCauseFunc]struct{})}
	c.leave()
	ctx, cancel := context.WithCancelCause(t.Context())
	c.enterRead(&cancel)
	if got := context.Cause(ctx); !errors.Is(got, errLeft) {
		t.Errorf("the cause is %v, want %v", got, errLeft)
	}
	if c.exitRead(&cancel); len(c.reads) != 0 {
		t.Error("the connection keeps a read that has ended")
	}
}

func TestAGatewayThatIsLateDoesNotBlameItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := connect(t, serveLink(t, stayOpen), 1)
		c := (*pool.conns.Load())[0]
		pool.stop() // the watcher
		pool.running.Wait()
		c.inFlight.Add(1)
		now := time.Now()
		c.silent(now, 0)
		for _, test := range []struct {
			name        string
			after, late time.Duration
			want        bool
		}{
			{"2 s of silence", 2 * time.Second, 0, true},
			{"2 s, a little late", 2 * time.Second, maxLate, true},
			{"2 s, of which the gateway slept one", 2 * time.Second, time.Second, false},
			{"2 s after that", 3 * time.Second, 0, true},
		} {
			if got := c.silent(now.Add(test.after), test.late); got != test.want {
				t.Errorf("%s: it is to be probed: %v, want %v", test.name, got, test.want)
			}
		}
		c.release()
	})
}
