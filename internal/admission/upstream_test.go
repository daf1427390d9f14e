package admission

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

const (
	getTransfer    = "/meshtrade.wallet.transfer.v1.TransferService/GetTransfer"
	listTransfers  = "/meshtrade.wallet.transfer.v1.TransferService/ListTransfers"
	createTransfer = "/meshtrade.wallet.transfer.v1.TransferService/CreateTransfer"
	monitor        = "/meshtrade.wallet.transfer.v1.TransferService/MonitorTransfer"
	getReport      = "/meshtrade.reporting.account_report.v1.AccountReportService/GetAccountReport"
)

// workshop is an upstream that makes as many calls at a time as it has workers. The others wait for a
// worker, even if nobody awaits their answer any more.
type workshop struct {
	workers chan struct{}

	mu   sync.Mutex
	took map[string]time.Duration // by method
	// calls and late are the calls by method, and those that finished after their deadline.
	calls, late map[string]int
}

func newWorkshop(workers int, took map[string]time.Duration) *workshop {
	return &workshop{workers: make(chan struct{}, workers), took: took, calls: make(map[string]int), late: make(map[string]int)}
}

// set changes how long the calls of a method take.
func (u *workshop) set(method string, took time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.took = maps.Clone(u.took)
	u.took[method] = took
}

func (u *workshop) counts(method string) (calls, late int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[method], u.late[method]
}

// Invoke implements [grpc.ClientConnInterface].
func (u *workshop) Invoke(ctx context.Context, method string, _, _ any, _ ...grpc.CallOption) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		u.workers <- struct{}{}
		defer func() { <-u.workers }()
		u.mu.Lock()
		took := u.took[method]
		u.mu.Unlock()
		time.Sleep(took)
		u.mu.Lock()
		defer u.mu.Unlock()
		u.calls[method]++
		if ctx.Err() != nil {
			u.late[method]++
		}
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return apierror.NewSent(codes.DeadlineExceeded, apierror.UpstreamTimeout, "too late")
	}
}

// NewStream implements [grpc.ClientConnInterface].
func (*workshop) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "only opened")
}

// newControl returns a control whose CPUs are idle.
func newControl() *Control {
	c := New(contract.Methods())
	c.cpu.schedule = func() (time.Duration, bool) { return 0, true }
	return c
}

// result is what became of the calls of one method.
type result struct{ offered, answered, refused, late int }

// load is calls that arrive at a constant rate, whether or not earlier ones have ended.
type load struct {
	method  string
	rate    int // per second
	timeout time.Duration
}

// run offers the loads for a time and waits until all calls have ended.
func run(t *testing.T, c *Control, u *workshop, length time.Duration, loads ...load) map[string]result {
	t.Helper()
	conn := c.Limit(c.Measure(u))
	var mu sync.Mutex
	results := make(map[string]result)
	var running sync.WaitGroup
	for _, l := range loads {
		running.Go(func() {
			for range int(length.Seconds() * float64(l.rate)) {
				running.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), l.timeout)
					defer cancel()
					err := conn.Invoke(ctx, l.method, nil, nil)
					mu.Lock()
					defer mu.Unlock()
					r := results[l.method]
					r.offered++
					switch {
					case err == nil:
						r.answered++
					case status.Code(err) == codes.Unavailable:
						r.refused++
					default:
						r.late++
					}
					results[l.method] = r
				})
				time.Sleep(time.Second / time.Duration(l.rate))
			}
		})
	}
	running.Wait()
	return results
}
