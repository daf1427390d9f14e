package upstream

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// TestOutage begins a call when an outage has some age, and ends the outage later or never.
func TestOutage(t *testing.T) {
	const never = time.Hour
	for _, test := range []struct {
		name, method string
		mode         mode
		// age is how old the outage is when the call begins, and lasts how long it is in all.
		age, lasts, timeout time.Duration
		ok                  bool
		min, max            time.Duration // that the call takes
	}{
		{"a read waits for the end of a short outage", readMethod, refuse, 0, 3 * time.Second, 30 * time.Second, true, 2500 * time.Millisecond, 4 * time.Second},
		{"a read waits in the middle of an outage", readMethod, refuse, 2 * time.Second, 3 * time.Second, 30 * time.Second, true, time.Second, 2 * time.Second},
		{"a read waits while attempts to connect are dropped", readMethod, drop, 0, 1500 * time.Millisecond, 30 * time.Second, true, time.Second, 4 * time.Second},
		{"a read gives up when the outage is 5 seconds old", readMethod, refuse, 2 * time.Second, never, 30 * time.Second, false, 3 * time.Second, 3100 * time.Millisecond},
		{"a read gives up at its deadline", readMethod, refuse, time.Millisecond, never, time.Second, false, time.Second, 1100 * time.Millisecond},
		{"a read does not wait in a longer outage", readMethod, refuse, 6 * time.Second, never, 30 * time.Second, false, 0, 100 * time.Millisecond},
		{"a read does not wait in a longer outage of dropped packets", readMethod, drop, 6 * time.Second, never, 30 * time.Second, false, 0, 100 * time.Millisecond},
		{"a write does not wait", writeMethod, refuse, time.Millisecond, time.Second, 30 * time.Second, false, 0, 100 * time.Millisecond},
		{"a write waits while it is open whether the connection can be made", writeMethod, drop, time.Millisecond, never, 30 * time.Second, false, 400 * time.Millisecond, 600 * time.Millisecond},
		{"a write does not wait for packets that are dropped", writeMethod, drop, time.Second, never, 30 * time.Second, false, 0, 100 * time.Millisecond},
		{"a write goes over a connection that is made again", writeMethod, accept, time.Millisecond, 0, 30 * time.Second, true, 0, 300 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := serveLink(t, answerOnce)
				pool := connect(t, l, 2)
				time.Sleep(time.Minute)
				l.lose(test.mode)
				if test.age > 0 {
					synctest.Wait()
					time.Sleep(test.age)
				}
				ended := begin(t, pool, test.method, test.timeout)
				if test.lasts < never {
					time.Sleep(test.lasts - test.age)
					l.set(accept)
				}
				got := <-ended
				if got.took < test.min || got.took > test.max {
					t.Errorf("it took %s, want %s to %s", got.took, test.min, test.max)
				}
				if test.ok {
					if got.err != nil {
						t.Error(got.err)
					}
					return
				}
				wantFault(t, got.err, codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent")
				if calls := l.callsOf(test.method); calls != 0 {
					t.Errorf("%d calls, and nothing was to be sent", calls)
				}
			})
		})
	}
}

func TestNeverReached(t *testing.T) {
	for _, test := range []struct {
		name   string
		mode   mode
		within time.Duration
	}{{"refused", refuse, 100 * time.Millisecond}, {"dropped", drop, time.Second - time.Millisecond}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := serveLink(t, answerOnce)
				l.set(test.mode)
				pool := dial(t, "mesh:1", Options{Plaintext: true, Connections: 2, Dialer: l.dial})
				pool.Connect()
				for _, method := range []string{readMethod, writeMethod} {
					for range 2 {
						got := <-begin(t, pool, method, 30*time.Second)
						wantFault(t, got.err, codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent")
						if got.took > test.within {
							t.Errorf("it took %s, want at most %s", got.took, test.within)
						}
						time.Sleep(time.Minute)
					}
				}
			})
		})
	}
}

// TestReconnectInterval looks at the attempts of a connection in a long outage. The last bound is
// what an attempt may take that is not refused.
func TestReconnectInterval(t *testing.T) {
	for _, test := range []struct {
		name string
		mode mode
		most time.Duration
	}{{"refused", refuse, 500 * time.Millisecond}, {"dropped", drop, connectTimeout + 500*time.Millisecond}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := serveLink(t, answerOnce)
				connect(t, l, 1)
				time.Sleep(time.Minute)
				l.lose(test.mode)
				time.Sleep(time.Minute)
				dials := l.dialTimes()[1:]
				if len(dials) < 10 {
					t.Fatalf("%d attempts in a minute", len(dials))
				}
				for pair := range slices.Chunk(append(dials, time.Now()), 2) {
					if len(pair) == 2 && pair[1].Sub(pair[0]) > test.most {
						t.Errorf("%s between two attempts, want at most %s", pair[1].Sub(pair[0]), test.most)
					}
				}
			})
		})
	}
}

// TestReconnectPause has an upstream that accepts connections and closes them.
func TestReconnectPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serveLink(t, answerOnce)
		connect(t, l, 1)
		end := time.Now().Add(10 * time.Second)
		for time.Now().Before(end) {
			l.lose(accept)
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		if n := len(l.dialTimes()); n > 110 {
			t.Errorf("%d connections in 10 seconds, want at most 10 a second", n)
		}
	})
}

// TestWaitingCallsAreSpread ends an outage in which many calls wait.
func TestWaitingCallsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 1000
		var mu sync.Mutex
		at := make(map[time.Time]int)
		l := serveLink(t, func(ctx context.Context, method string, stream grpc.ServerStream) error {
			mu.Lock()
			at[time.Now()]++
			mu.Unlock()
			return answerOnce(ctx, method, stream)
		})
		pool := connect(t, l, 2)
		l.lose(refuse)
		synctest.Wait()
		var all []<-chan result
		for range calls {
			all = append(all, begin(t, pool, readMethod, 30*time.Second))
		}
		time.Sleep(time.Second)
		l.set(accept)
		for _, ended := range all {
			if got := <-ended; got.err != nil {
				t.Fatal(got.err)
			}
		}
		for moment, n := range at {
			if n > calls/10 {
				t.Errorf("%d of %d calls are sent at the same moment, %s", n, calls, moment)
			}
		}
		if got := pool.Waits(); got != calls {
			t.Errorf("%d waits, want %d", got, calls)
		}
	})
}

func TestAStreamWaitsInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serveLink(t, stayOpen)
		pool := connect(t, l, 2)
		l.lose(refuse)
		synctest.Wait()
		go func() { time.Sleep(time.Second); l.set(accept) }()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		openStream(t, ctx, pool)
	})
}

// TestCloseEndsWaiting closes a pool for whose connections a call waits.
func TestCloseEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serveLink(t, answerOnce)
		pool := connect(t, l, 2)
		l.lose(drop)
		synctest.Wait()
		ended := begin(t, pool, readMethod, 30*time.Second)
		synctest.Wait()
		_ = pool.Close()
		got := <-ended
		wantFault(t, got.err, codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent")
		if got.took > 0 {
			t.Errorf("it took %s", got.took)
		}
		if pool.Connections(connectivity.Shutdown) != 2 {
			t.Error("a connection is open")
		}
	})
}

// TestBudget repeats reads until the budget is spent.
func TestBudget(t *testing.T) {
	var b retryBudget
	b.tokens.Store(budgetSize)
	b.earn() // it is full
	spent := 0
	for b.spend() {
		spent++
	}
	if spent != 1000 {
		t.Errorf("%d retries at once, want 1000", spent)
	}
	for range retryCost - 1 {
		b.earn()
	}
	if b.spend() {
		t.Error("a retry after 9 reads that succeed")
	}
	if b.earn(); !b.spend() {
		t.Error("no retry after 10 reads that succeed")
	}
}

// TestRetriesAreBounded has an upstream that fails all reads.
func TestRetriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 2000
		l := serveLink(t, func(context.Context, string, grpc.ServerStream) error {
			return apierror.New(codes.Unavailable, "BUSY", "busy").GRPCStatus().Err()
		})
		pool := connect(t, l, 2)
		for range calls {
			if got := <-begin(t, pool, readMethod, 30*time.Second); codeOf(got.err) != codes.Unavailable {
				t.Fatal(got.err)
			}
		}
		if got := l.callsOf(readMethod); got != calls+1000 {
			t.Errorf("%d calls for %d reads, want 1000 more", got, calls)
		}
		if pool.Retries() != 1000 || pool.RefusedRetries() == 0 {
			t.Errorf("%d retries, %d refused", pool.Retries(), pool.RefusedRetries())
		}
	})
}

// TestAStreamIsRepeatedUntilItsFirstMessage loses the connection of streams.
func TestAStreamIsRepeatedUntilItsFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l *link
		l = serveLink(t, func(ctx context.Context, method string, stream grpc.ServerStream) error {
			if l.callsOf(method) == 1 {
				l.lose(accept)
			}
			return stayOpen(ctx, method, stream)
		})
		pool := connect(t, l, 1)
		stream := openStream(t, t.Context(), pool)
		if got := l.callsOf(streamMethod); got != 2 {
			t.Errorf("%d calls, want 2", got)
		}
		l.lose(accept)
		wantFault(t, stream.RecvMsg(new(emptypb.Empty)), codes.Unavailable, apierror.UpstreamUnreachable, "connection to the Mesh API was lost")
		if got := l.callsOf(streamMethod); got != 2 {
			t.Errorf("%d calls, want 2: it had a message", got)
		}
	})
}
