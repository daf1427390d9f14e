package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// busyMesh is an upstream with a number of workers, each of which takes a fixed time for a call. What
// it gets done in a second is therefore known, and hardly depends on the machine. Calls wait for a
// worker until their deadline. Streams need none.
type busyMesh struct {
	limitorderv1.UnimplementedLimitOrderServiceServer

	target  string
	took    time.Duration
	workers chan struct{}
	// writes are the writes that arrived, and late those that were not finished by their deadline.
	writes, late atomic.Int64
}

func startBusyMesh(t *testing.T, workers int, took time.Duration) *busyMesh {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &busyMesh{target: listener.Addr().String(), took: took, workers: make(chan struct{}, workers)}
	server := grpc.NewServer()
	limitorderv1.RegisterLimitOrderServiceServer(server, m)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m
}

// perSecond is how many calls the upstream gets done in a second.
func (m *busyMesh) perSecond() float64 { return float64(cap(m.workers)) / m.took.Seconds() }

func (m *busyMesh) work(ctx context.Context) error {
	select {
	case m.workers <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	time.Sleep(m.took)
	<-m.workers
	return ctx.Err()
}

// GetLimitOrder implements the service.
func (m *busyMesh) GetLimitOrder(ctx context.Context, r *limitorderv1.GetLimitOrderRequest) (*limitorderv1.LimitOrder, error) {
	return &limitorderv1.LimitOrder{Name: r.GetName()}, m.work(ctx)
}

// CancelLimitOrder implements the service.
func (m *busyMesh) CancelLimitOrder(ctx context.Context, r *limitorderv1.CancelLimitOrderRequest) (*limitorderv1.LimitOrder, error) {
	m.writes.Add(1)
	err := m.work(ctx)
	if err != nil {
		m.late.Add(1)
	}
	return &limitorderv1.LimitOrder{Name: r.GetName()}, err
}

// MonitorLimitOrder implements the service. The stream is idle after the first message.
func (*busyMesh) MonitorLimitOrder(r *limitorderv1.MonitorLimitOrderRequest, stream grpc.ServerStreamingServer[limitorderv1.LimitOrder]) error {
	if err := stream.Send(&limitorderv1.LimitOrder{Name: r.GetName()}); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
	case <-time.After(time.Second):
	}
	return nil
}

const orderPath = "/v1/limit_orders/00000000000000000000000001"

// overload is an open loop: requests are sent at a constant rate, whatever becomes of earlier ones.
type overload struct {
	base   string
	client *http.Client
	// timeout is that of each request.
	timeout time.Duration

	mu      sync.Mutex
	classes map[string]*outcomes
}

// outcomes are what became of the requests of a class.
type outcomes struct {
	sent, answered, refused, late int
	others                        map[string]int
	took                          []time.Duration // of those that were answered
}

func newOverload(t *testing.T, base string, timeout time.Duration) *overload {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 4096, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &overload{base: base, client: &http.Client{Transport: transport}, timeout: timeout, classes: make(map[string]*outcomes)}
}

// run sends requests for a time: of 10, two writes, seven reads and one stream. It returns when all
// have ended.
func (o *overload) run(ctx context.Context, perSecond float64, length time.Duration) {
	var running sync.WaitGroup
	start := time.Now()
	for i := range int(perSecond * length.Seconds()) {
		time.Sleep(time.Until(start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
		running.Go(func() {
			switch i % 10 {
			case 0, 5:
				o.send(ctx, "write", http.MethodPost, orderPath+":cancel", i)
			case 7:
				o.send(ctx, "stream", http.MethodGet, orderPath+":monitor", i)
			default:
				o.send(ctx, "read", http.MethodGet, orderPath, i)
			}
		})
	}
	running.Wait()
}

func (o *overload) send(ctx context.Context, class, method, path string, number int) {
	start := time.Now()
	outcome := o.exchange(ctx, method, path, number)
	took := time.Since(start)
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.classes[class]
	if c == nil {
		c = &outcomes{others: make(map[string]int)}
		o.classes[class] = c
	}
	c.sent++
	switch outcome {
	case "answered":
		c.answered++
		c.took = append(c.took, took)
	case "refused":
		c.refused++
	case "late":
		c.late++
	default:
		c.others[outcome]++
	}
}

// exchange sends a request and reads the response, of a stream its beginning.
func (o *overload) exchange(ctx context.Context, method, path string, number int) (outcome string) {
	var content io.Reader
	if method == http.MethodPost {
		content = strings.NewReader("{}")
	}
	request, err := http.NewRequestWithContext(ctx, method, o.base+path, content)
	if err != nil {
		return err.Error()
	}
	request.Header = caller(number % 16)
	if strings.HasSuffix(path, ":monitor") {
		request.Header.Set("Accept", "application/x-ndjson")
	} else {
		request.Header.Set("Request-Timeout", fmt.Sprint(o.timeout.Seconds()))
	}
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := o.client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err.Error()
	case response.StatusCode == http.StatusOK:
		return "answered"
	case response.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), `"OVERLOADED"`) &&
		strings.Contains(string(body), `"sent":"false"`) && response.Header.Get("Retry-After") != "":
		return "refused"
	case response.StatusCode == http.StatusGatewayTimeout:
		return "late"
	}
	return fmt.Sprintf("%d %s", response.StatusCode, body[:min(len(body), 200)])
}

// print logs the outcomes.
func (o *overload) print(t *testing.T, phase string, length time.Duration) {
	t.Helper()
	for _, class := range []string{"write", "read", "stream"} {
		c := o.of(class)
		slices.Sort(c.took)
		var median, worst time.Duration
		if n := len(c.took); n > 0 {
			median, worst = c.took[n/2], c.took[n-1]
		}
		t.Logf("%s, %-6s: %.0f/s sent, goodput %.0f/s (%.1f %%), %d refused, %d late, others %v; median %d ms, at most %d ms", phase, class,
			float64(c.sent)/length.Seconds(), float64(c.answered)/length.Seconds(), 100*float64(c.answered)/float64(max(c.sent, 1)),
			c.refused, c.late, c.others, median.Milliseconds(), worst.Milliseconds())
	}
}

func (o *overload) of(class string) *outcomes {
	if c := o.classes[class]; c != nil {
		return c
	}
	return new(outcomes)
}

// answered returns the number of unary calls that were answered.
func (o *overload) answered() int { return o.of("write").answered + o.of("read").answered }

// watchHealth requests /healthz every 20 ms until the function that it returns is called, which
// returns the number of requests and the longest time that one took.
func watchHealth(t *testing.T, base string) (stop func() (requests int, worst time.Duration)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	transport := new(http.Transport)
	var n int
	var worst time.Duration
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, base+"/healthz", nil)
			if err != nil {
				t.Error(err)
				return
			}
			start := time.Now()
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Error(err)
				return
			}
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("/healthz: %d, %v", response.StatusCode, err)
			}
			n, worst = n+1, max(worst, time.Since(start))
			wait(ctx, 20*time.Millisecond)
		}
	})
	return func() (int, time.Duration) {
		cancel()
		running.Wait()
		transport.CloseIdleConnections()
		return n, worst
	}
}

// watchPauses watches for how long the machine does not run what is due, until the function that it
// returns is called, which returns the longest pause. The goodput suffers from them.
func watchPauses(t *testing.T) (stop func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	const period = 5 * time.Millisecond
	var longest time.Duration
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			start := time.Now()
			time.Sleep(period)
			longest = max(longest, time.Since(start)-period)
		}
	})
	return func() time.Duration {
		cancel()
		running.Wait()
		return longest
	}
}

// TestOverloadOfMesh offers a service nine tenths of what it can do, and then three times as much. The
// client is an open loop, and has a deadline.
//
// With --admission off, on the same machine, the goodput is 38 % of the capacity, 14 % of the writes are
// carried out in time, and 823 of 1,120 are sent too late.
func TestOverloadOfMesh(t *testing.T) {
	const (
		timeout = 2 * time.Second
		length  = 8 * time.Second
		factor  = 3
	)
	mesh := startBusyMesh(t, 10, 50*time.Millisecond)
	p := start(t, "--upstream", mesh.target, "--upstream-plaintext", "--rate-limit-read", "0", "--rate-limit-write", "0", "--max-key-streams", "5000", "--max-address-connections", "0")

	paused := watchPauses(t)
	stop := watchHealth(t, p.base)
	usual := newOverload(t, p.base, timeout)
	// A tenth of the requests are streams, which the workers do not notice.
	usual.run(t.Context(), mesh.perSecond(), length/2)
	usual.print(t, "1x", length/2)
	requests, worst := stop()
	t.Logf("1x: /healthz answered %d times, at most %d ms", requests, worst.Milliseconds())
	stop = watchHealth(t, p.base)
	heavy := newOverload(t, p.base, timeout)
	heavy.run(t.Context(), factor*mesh.perSecond(), length)
	heavy.print(t, "3x", length)
	requests, worst = stop()
	goodputBar, writesBar := 0.9, 0.99
	if pause := paused(); pause > 50*time.Millisecond || raceDetector {
		t.Logf("the machine paused for %d ms, so the bars are lower", pause.Milliseconds())
		goodputBar, writesBar = 0.4, 0.5
	} else {
		sent := usual.of("write").sent + usual.of("read").sent
		if refused := usual.of("write").refused + usual.of("read").refused; refused > sent/100 {
			t.Errorf("%d of %d requests were refused without an overload", refused, sent)
		}
	}
	t.Logf("3x: /healthz answered %d times, at most %d ms", requests, worst.Milliseconds())
	t.Logf("3x: %d writes reached the upstream, %d of them too late; %d MiB of memory, %d at the peak",
		mesh.writes.Load(), mesh.late.Load(), p.resident(t, "VmRSS")>>20, p.resident(t, "VmHWM")>>20)

	for class, c := range heavy.classes {
		if len(c.others) > 0 {
			t.Errorf("%s: %v, want answers and refusals only", class, c.others)
		}
	}
	if late := mesh.late.Load(); late > mesh.writes.Load()/100 {
		t.Errorf("%d of %d writes were sent too late", late, mesh.writes.Load())
	}
	goodput, capacity := float64(heavy.answered()), mesh.perSecond()*length.Seconds()
	t.Logf("3x: goodput %.1f %% of the capacity", 100*goodput/capacity)
	if goodput < goodputBar*capacity {
		t.Errorf("the goodput is %.0f calls, less than %.0f %% of %.0f", goodput, 100*goodputBar, capacity)
	}
	if writes := heavy.of("write"); float64(writes.answered) < writesBar*float64(writes.sent) {
		t.Errorf("%d of %d writes were carried out, less than %.0f %%", writes.answered, writes.sent, 100*writesBar)
	}
	if heavy.of("read").refused == 0 {
		t.Error("no read was refused, so there was no overload")
	}
	if got := p.call(t, "GET", orderPath, caller(0), ""); got.status != http.StatusOK {
		t.Errorf("a read after the overload: %d %s", got.status, got.body)
	}
}

// TestLateWrites sends writes with less time than the upstream takes. The first of them show that.
func TestLateWrites(t *testing.T) {
	mesh := startBusyMesh(t, 100, 300*time.Millisecond)
	p := start(t, "--upstream", mesh.target, "--upstream-plaintext", "--rate-limit-write", "0")
	cancelOrder := func(timeout, key string) answer {
		header := caller(0)
		header.Set("Idempotency-Key", key)
		header.Set("Request-Timeout", timeout)
		return p.call(t, "POST", orderPath+":cancel", header, "{}")
	}
	for i := range 8 {
		if got := cancelOrder("10", fmt.Sprint("first-", i)); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	refused, unknown := 0, 0
	key := ""
	for i := range 40 {
		switch got := cancelOrder("0.1", fmt.Sprint("late-", i)); got.status {
		case http.StatusServiceUnavailable:
			refused++
			key = fmt.Sprint("late-", i)
			info := got.detail(t, "ErrorInfo")
			if info["reason"] != "OVERLOADED" || info["metadata"].(map[string]any)["sent"] != "false" || got.header.Get("Retry-After") == "" {
				t.Errorf("%s, Retry-After %q", got.body, got.header.Get("Retry-After"))
			}
		case http.StatusGatewayTimeout: // some are sent, to see whether the upstream is faster
			unknown++
		default:
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	t.Logf("%d writes were refused, %d were sent and are unknown", refused, unknown)
	if refused < 30 {
		t.Errorf("%d of 40 writes were refused, want nearly all", refused)
	}
	if got := cancelOrder("10", key); got.status != http.StatusOK || got.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("the key of a refused write, with enough time: %d %s", got.status, got.body)
	}
}

// TestOverloadOfGateway has clients read compressed lists, which take the gateway much CPU time, and
// its clients and its upstream little. How long /healthz takes depends on the machine.
//
// With --admission off, right after the same with it, it took 280 to 1,840 ms instead of 90 to 870 ms,
// and 12 to 81 % fewer lists were answered. The larger figures are of a machine with other load.
func TestOverloadOfGateway(t *testing.T) {
	const length = 8 * time.Second
	clients := 1024
	if raceDetector {
		clients = 32
	}
	reply := new(accountv1.ListAccountsResponse)
	for i := range 2000 {
		reply.Accounts = append(reply.Accounts, &accountv1.Account{Name: fmt.Sprintf("accounts/%026d", i), Owner: group, Number: fmt.Sprint(i), DisplayName: "Treasury"})
	}
	form, err := proto.Marshal(reply)
	if err != nil {
		t.Fatal(err)
	}
	raw := new(accountv1.ListAccountsResponse)
	raw.ProtoReflect().SetUnknown(form)
	upstream := meshtest.NewUpstream(t)
	upstream.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
		if method.Name() == "ListAccounts" {
			return []proto.Message{raw}, nil
		}
		return []proto.Message{dynamicpb.NewMessage(method.Output())}, nil
	})
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--rate-limit-read", "0", "--rate-limit-write", "0", "--max-address-connections", "0")
	transport := &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	stop := watchHealth(t, p.base)
	var mu sync.Mutex
	lists, writes := make(map[string]int), make(map[int]int)
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			for ctx.Err() == nil {
				header := caller(i % 16)
				header.Set("Accept-Encoding", "gzip")
				outcome, _ := readList(ctx, transport, p.base+listPath, header)
				mu.Lock()
				lists[outcome]++
				mu.Unlock()
				if outcome == "refused" {
					wait(ctx, 100*time.Millisecond)
				}
			}
		})
	}
	for ctx.Err() == nil {
		writes[p.call(t, "POST", "/v1/groups", caller(17), newGroup).status]++
		wait(ctx, 50*time.Millisecond)
	}
	running.Wait()
	requests, worst := stop()
	t.Logf("%d clients read a list of %d KiB: %v; writes %v", clients, len(form)>>10, lists, writes)
	t.Logf("/healthz answered %d times, at most %d ms; %d MiB of memory, %d at the peak", requests, worst.Milliseconds(), p.resident(t, "VmRSS")>>20, p.resident(t, "VmHWM")>>20)
	delete(lists, "ended")
	if lists["answered"] == 0 || len(lists) > 2 || len(lists) == 2 && lists["refused"] == 0 {
		t.Errorf("lists %v, want answers and refusals only", lists)
	}
	if writes[http.StatusOK] == 0 || len(writes) != 1 {
		t.Errorf("writes %v, want all of them answered", writes)
	}
	p.wantWithin(t, inFlight+programMemory)
}
