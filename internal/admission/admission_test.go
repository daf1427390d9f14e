package admission

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

const (
	ms = time.Millisecond
	// most is more workers than calls, so that no call waits for another.
	most = 1 << 20
)

// ended gives calls whose client is gone the time to end.
func ended() { time.Sleep(time.Hour) }

// TestNoOverload has load without an overload: no call waits for another, or those that do are
// answered soon.
func TestNoOverload(t *testing.T) {
	for _, test := range []struct {
		name    string
		workers int
		took    map[string]time.Duration
		length  time.Duration
		loads   []load
	}{
		{"a burst on a gateway that just started", 20, map[string]time.Duration{getTransfer: 50 * ms},
			ms, []load{{getTransfer, 200_000, 10 * time.Second}}},
		{"a burst of 2,000", 20, map[string]time.Duration{getTransfer: 50 * ms},
			ms, []load{{getTransfer, 2_000_000, 10 * time.Second}}},
		{"many slow calls, from one moment to the next", most, map[string]time.Duration{getTransfer: 500 * ms},
			4 * time.Second, []load{{getTransfer, 4000, 10 * time.Second}}},
		{"slow and fast methods of one service", most, map[string]time.Duration{getTransfer: 5 * ms, listTransfers: 400 * ms, createTransfer: 50 * ms},
			4 * time.Second, []load{{getTransfer, 1000, 10 * time.Second}, {listTransfers, 500, 10 * time.Second}, {createTransfer, 100, 10 * time.Second}}},
		{"nine tenths of the capacity", 20, map[string]time.Duration{getTransfer: 50 * ms, createTransfer: 50 * ms},
			10 * time.Second, []load{{getTransfer, 300, time.Second}, {createTransfer, 60, time.Second}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for method, got := range run(t, newControl(), newWorkshop(test.workers, test.took), test.length, test.loads...) {
					if got.answered != got.offered {
						t.Errorf("%s: %+v, want all answered", method, got)
					}
				}
			})
		})
	}
}

// TestOverload offers three times what the upstream can do.
func TestOverload(t *testing.T) {
	for _, test := range []struct {
		name    string
		workers int
		took    time.Duration
		timeout time.Duration
	}{
		{"20 workers of 50 ms", 20, 50 * ms, time.Second},
		{"4 workers of 10 ms", 4, 10 * ms, time.Second},
		{"50 workers of 200 ms", 50, 200 * ms, 2 * time.Second},
		{"2 workers of 4 ms", 2, 4 * ms, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const length = 20 * time.Second
				c := newControl()
				u := newWorkshop(test.workers, map[string]time.Duration{getTransfer: test.took, createTransfer: test.took, getReport: 0})
				perSecond := int(float64(test.workers) / test.took.Seconds())
				got := run(t, c, u, length,
					load{createTransfer, perSecond / 2, test.timeout}, load{getTransfer, perSecond * 5 / 2, test.timeout})
				ended()
				writes, reads := got[createTransfer], got[getTransfer]
				t.Logf("writes %+v, reads %+v, limit %d", writes, reads, c.methods[getTransfer].service.Limit())
				capacity := perSecond * int(length.Seconds())
				if goodput := writes.answered + reads.answered; goodput < capacity*95/100 {
					t.Errorf("%d calls were answered, less than 95 %% of %d", goodput, capacity)
				}
				if writes.answered < writes.offered*99/100 {
					t.Errorf("%d of %d writes were answered", writes.answered, writes.offered)
				}
				if _, late := u.counts(createTransfer); late > 0 {
					t.Errorf("%d writes were carried out too late", late)
				}
				if refused := c.Refused(Read); refused != uint64(reads.refused) || refused == 0 {
					t.Errorf("%d refused reads were counted, %d were refused", refused, reads.refused)
				}
				if limit := c.methods[getReport].service.Limit(); limit != 0 {
					t.Errorf("another service has a limit of %d", limit)
				}
				// Nobody noticed that the overload was over.
				for method, got := range run(t, c, u, ms, load{getTransfer, 200_000, 10 * time.Second}) {
					if got.answered != got.offered {
						t.Errorf("%s: %+v in a burst after the overload, want all answered", method, got)
					}
				}
			})
		})
	}
}

// TestUpstreamBecomesSlower has calls take ten times as long, and not because they wait for each
// other. A limit must not stay.
func TestUpstreamBecomesSlower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := newControl(), newWorkshop(most, map[string]time.Duration{getTransfer: 50 * ms})
		calls := load{getTransfer, 1000, 10 * time.Second}
		if got := run(t, c, u, 5*time.Second, calls)[getTransfer]; got.refused > 0 {
			t.Errorf("before: %+v, want none refused", got)
		}
		u.set(getTransfer, 500*ms)
		during := run(t, c, u, 10*time.Second, calls)[getTransfer]
		t.Logf("in the first 10 s: %+v", during)
		if during.refused > during.offered/3 {
			t.Errorf("%+v, want at most a third refused", during)
		}
		if got := run(t, c, u, 30*time.Second, calls)[getTransfer]; got.refused > 0 {
			t.Errorf("after: %+v, want none refused", got)
		}
	})
}

// TestUpstreamLosesWorkers takes nine of ten workers away, and gives them back.
func TestUpstreamLosesWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := newControl(), newWorkshop(100, map[string]time.Duration{getTransfer: 50 * ms, createTransfer: 50 * ms})
		loads := []load{{getTransfer, 1000, 2 * time.Second}, {createTransfer, 100, 2 * time.Second}}
		run(t, c, u, 5*time.Second, loads...)
		for range 90 {
			u.workers <- struct{}{}
		}
		got := run(t, c, u, 20*time.Second, loads...)
		t.Logf("with 10 workers: %+v", got)
		if writes := got[createTransfer]; writes.answered < writes.offered*75/100 {
			t.Errorf("%d of %d writes were answered", writes.answered, writes.offered)
		}
		for range 90 {
			<-u.workers
		}
		run(t, c, u, 5*time.Second, loads...)
		for method, got := range run(t, c, u, 5*time.Second, loads...) {
			if got.answered != got.offered {
				t.Errorf("%s with 100 workers again: %+v, want all answered", method, got)
			}
		}
		ended()
	})
}

func TestLateWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := newControl(), newWorkshop(most, map[string]time.Duration{createTransfer: 50 * ms, getTransfer: time.Second})
		conn := c.Limit(c.Measure(u))
		call := func(method string, timeout time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			return conn.Invoke(ctx, method, nil, nil)
		}
		for range 20 {
			if err := call(createTransfer, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		u.set(createTransfer, 5*time.Second)
		if err := call(createTransfer, time.Minute); err != nil {
			t.Fatal(err)
		}
		u.set(createTransfer, 50*ms)
		if err := call(createTransfer, time.Second); err != nil {
			t.Errorf("after one slow write: %v", err)
		}

		u.set(createTransfer, 800*ms)
		for range 10 {
			if err := call(createTransfer, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := u.counts(createTransfer)
		c.methods[createTransfer].need.probed = time.Now() // no probe now
		err := call(createTransfer, 500*ms)
		if after, _ := u.counts(createTransfer); after != before {
			t.Error("the write was sent")
		}
		wantRefusal(t, err, "The Mesh API takes about 800ms for this write at the moment, and only 500ms are left until its deadline. Nothing was sent to the Mesh API.")
		if c.Late() == 0 {
			t.Error("the write was not counted")
		}
		if err := call(createTransfer, time.Second); err != nil {
			t.Errorf("a write with enough time: %v", err)
		}
		if err := call(getTransfer, 500*ms); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a read with too little time: %v, want it to be sent", err)
		}

		u.set(createTransfer, 50*ms)
		begin := time.Now()
		for refused := 1; refused > 0; {
			refused = 0
			for range 5 {
				if call(createTransfer, 500*ms) != nil {
					refused++
				}
				time.Sleep(200 * ms)
			}
			if time.Since(begin) > 4*time.Second {
				t.Fatal("writes are still refused although the upstream is fast again")
			}
		}
		ended()
	})
}

// wantRefusal checks that an error says that nothing was sent, and when to try again.
func wantRefusal(t *testing.T, err error, message string) {
	t.Helper()
	refusal, ok := errors.AsType[*apierror.Error](err)
	if !ok {
		t.Fatalf("%v, want a refusal", err)
	}
	if refusal.Sent() || refusal.HTTPStatus() != 503 || !strings.HasPrefix(refusal.Error(), message) {
		t.Errorf("%d %s, sent %v, want %q", refusal.HTTPStatus(), refusal, refusal.Sent(), message)
	}
	for _, detail := range refusal.GRPCStatus().Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok && retry.GetRetryDelay().AsDuration() == time.Second {
			return
		}
	}
	t.Error("no RetryInfo")
}

func TestOpenStreamsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		conn := c.Limit(c.Measure(newWorkshop(1, nil)))
		if _, err := conn.NewStream(t.Context(), nil, monitor); status.Code(err) != codes.Unimplemented {
			t.Fatal(err)
		}
		service := c.methods[monitor].service
		if n := service.InFlight(); n != 0 {
			t.Errorf("%d calls are in flight", n)
		}
		service.gate.set(1)
		if err := c.admit(t.Context(), c.methods[getTransfer]); err != nil {
			t.Fatal(err)
		}
		_, err := conn.NewStream(t.Context(), nil, monitor)
		wantRefusal(t, err, "TransferService of the Mesh API gets more calls than it can process at the moment. Nothing was sent")
		if n := c.Refused(Stream); n != 1 {
			t.Errorf("%d refused streams were counted", n)
		}
	})
}

func TestEnter(t *testing.T) {
	for _, test := range []struct {
		name string
		rpc  string
		// limit is that of the gateway, which is reached, or 0. serviceFull is set if calls wait for
		// the service for too long.
		limit       int64
		serviceFull bool
		want        string // the refusal
	}{
		{name: "no limit", rpc: getTransfer},
		{name: "not a call", rpc: "", limit: 1},
		{name: "a read in an overloaded gateway", rpc: getTransfer, limit: 1, want: "The gateway gets more calls than it can process"},
		{name: "a stream in an overloaded gateway", rpc: monitor, limit: 1, want: "The gateway gets more calls than it can process"},
		{name: "a read of an overloaded service", rpc: getTransfer, serviceFull: true, want: "TransferService of the Mesh API gets more calls"},
		{name: "a write of an overloaded service", rpc: createTransfer, serviceFull: true},
		{name: "a read of another service", rpc: getReport, serviceFull: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newControl()
				if test.limit > 0 {
					c.cpu.gate.set(test.limit)
					c.cpu.next.Store(new(time.Now().Add(time.Hour)))
					c.cpu.gate.inFlight.Add(test.limit)
				}
				if test.serviceFull {
					g := c.methods[getTransfer].service.gate
					g.set(8)
					g.rate.Store(100)
					g.inFlight.Add(8)
					g.queued[Read].Add(51) // 510 ms
				}
				_, err := c.Enter(t.Context(), test.rpc, time.Minute)
				if test.want != "" {
					wantRefusal(t, err, test.want)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				c.Leave(test.rpc)
				if n := c.cpu.gate.inFlight.Load(); n != test.limit {
					t.Errorf("%d calls are in the gateway, want %d", n, test.limit)
				}
			})
		})
	}
}

func TestGateOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.set(1)
		if _, err := g.enter(t.Context(), Read, time.Second); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []Class
		var waiting sync.WaitGroup
		for _, class := range []Class{Stream, Read, Write, Stream, Write, Read} {
			waiting.Go(func() {
				if _, err := g.enter(t.Context(), class, time.Minute); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, class)
				mu.Unlock()
				g.leave()
			})
			synctest.Wait()
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := g.enter(gone, Write, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("a client that is gone: %v", err)
		}
		if waited, err := g.enter(t.Context(), Read, 300*ms); !errors.Is(err, errFull) || waited != 300*ms {
			t.Errorf("a call that waits too long: %v after %s", err, waited)
		}
		if n := g.queue(); n != 6 {
			t.Errorf("%d calls wait, want 6", n)
		}
		g.leave()
		waiting.Wait()
		want := []Class{Write, Write, Read, Read, Stream, Stream}
		for i := range want {
			if order[i] != want[i] {
				t.Fatalf("the order is %v, want %v", order, want)
			}
		}
		if n := g.inFlight.Load(); n != 0 {
			t.Errorf("%d calls are in flight", n)
		}
	})
}

// fakeCPUs are CPUs for which goroutines wait as long as the test says.
type fakeCPUs struct {
	delay atomic.Int64 // nanoseconds
	idle  atomic.Bool
}

// wait sets how long goroutines wait from now on.
func (f *fakeCPUs) wait(delay time.Duration) { f.delay.Store(int64(delay)) }

func (f *fakeCPUs) schedule() (delay time.Duration, known bool) {
	return time.Duration(f.delay.Load()), !f.idle.Load()
}

func TestGatewayLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(contract.Methods())
		var cpus fakeCPUs
		c.cpu.schedule = cpus.schedule
		step := func() int64 {
			time.Sleep(delayPeriod)
			c.cpu.adjust(time.Now())
			synctest.Wait() // the limit may have adjusted itself
			return c.GatewayLimit()
		}
		want := func(when string, got, want int64) {
			t.Helper()
			if got != want {
				t.Errorf("%s, the limit is %d, want %d", when, got, want)
			}
		}
		c.cpu.adjust(time.Now())
		c.cpu.gate.inFlight.Store(1000) // of which some only wait for slow clients
		want("without a delay", step(), 0)
		cpus.wait(2 * busyDelay)
		want("with a delay for one period", step(), 0)
		cpus.wait(0)
		want("after a burst", step(), 0)
		cpus.wait(2 * busyDelay)
		want("with a delay again", step(), 0)
		want("with a delay for two periods", step(), 750)
		for range 100 {
			step()
		}
		want("after a long delay", step(), int64(leastPerCPU*runtime.GOMAXPROCS(0)))
		cpus.wait((busyDelay + easyDelay) / 2)
		want("with a short delay", step(), int64(leastPerCPU*runtime.GOMAXPROCS(0)))
		c.cpu.gate.set(800)
		cpus.wait(0)
		want("without a delay", step(), 900)
		cpus.idle.Store(true)
		want("while the CPUs are idle", step(), 1800)
		step()
		want("while they stay idle", step(), 0)
		c.cpu.gate.set(leastPerCPU)
		cpus.idle.Store(false)
		for i := 0; step() != 0; i++ {
			if i == 100 {
				t.Fatal("the limit is still there after 100 steps without a delay")
			}
		}
	})
}

// TestGatewayLimitEnds lets calls wait for a limit that nothing but its own timer can raise.
func TestGatewayLimitEnds(t *testing.T) {
	for name, rpc := range map[string]string{"a write": createTransfer, "a read": getTransfer, "a stream": monitor} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(contract.Methods())
				var cpus fakeCPUs
				c.cpu.schedule = cpus.schedule
				cpus.wait(2 * busyDelay)
				c.cpu.gate.inFlight.Store(100) // which all wait for the upstream
				for range 5 {
					time.Sleep(delayPeriod)
					c.cpu.adjust(time.Now())
					synctest.Wait()
				}
				if limit := c.GatewayLimit(); limit >= 50 {
					t.Fatalf("the limit is %d, want less than half of the calls in flight", limit)
				}
				cpus.idle.Store(true)
				if waited, err := c.Enter(t.Context(), rpc, time.Minute); err != nil || waited == 0 || waited > 5*delayPeriod {
					t.Errorf("waited for %s, %v", waited, err)
				}
				c.Leave(rpc)
				if n := c.InGateway(); n != 100 {
					t.Errorf("%d calls are in the gateway, want 100", n)
				}
			})
		})
	}
}

// TestSchedule reads the measurements of the runtime.
func TestSchedule(t *testing.T) {
	schedule := readSchedule()
	if _, known := schedule(); known {
		t.Error("the first reading is of all the time before")
	}
	for i := 0; ; i++ {
		var running sync.WaitGroup
		for range 10_000 {
			running.Go(func() {})
		}
		running.Wait()
		if delay, known := schedule(); known {
			if delay < 0 || delay > time.Minute {
				t.Errorf("goroutines waited for %s", delay)
			}
			return
		}
		if i == 1000 {
			t.Fatal("the runtime measured nothing")
		}
	}
}

// immediate is an upstream that answers at once.
type immediate struct{ grpc.ClientConnInterface }

// Invoke implements [grpc.ClientConnInterface].
func (immediate) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return nil }

// BenchmarkCall measures what admission adds to a call without an overload.
func BenchmarkCall(b *testing.B) {
	c := New(contract.Methods())
	conn := c.Limit(c.Measure(immediate{}))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Enter(b.Context(), getTransfer, time.Minute); err != nil {
				b.Fatal(err)
			}
			if err := conn.Invoke(b.Context(), getTransfer, nil, nil); err != nil {
				b.Fatal(err)
			}
			c.Leave(getTransfer)
		}
	})
}
