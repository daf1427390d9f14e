package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/e2e/postgres"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// probePeriod is how often the balancer asks each gateway whether it is ready.
const probePeriod = 50 * time.Millisecond

// TestRollingRestart replaces three gateways behind a TCP balancer, one after the other, while
// clients send reads, writes and streams through it. No call may fail, no write may reach the
// upstream twice, and a stream may end only with the error that tells its client to connect again.
func TestRollingRestart(t *testing.T) {
	const readers, writers, watchers = 12, 4, 4
	upstream, store := meshtest.NewUpstream(t), postgres.Start(t)
	upstream.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
		answer := []proto.Message{dynamicpb.NewMessage(method.Output())}
		if method.IsStreamingServer() {
			return answer, meshtest.ErrStayOpen
		}
		time.Sleep(5 * time.Millisecond) // calls are in flight at any time
		return answer, nil
	})
	if code, _, stderr := command(t, "store", "migrate", "--store", store.URL()); code != 0 {
		t.Fatal(stderr)
	}
	balancer := newBalancer(t)
	replica := func() *program {
		p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--store", store.URL(),
			"--rate-limit-read", "0", "--rate-limit-write", "0", "--drain-delay", "1s")
		balancer.add(t, p.base)
		return p
	}
	replicas := []*program{replica(), replica(), replica()}

	load := &rollingLoad{base: balancer.url, caller: as(credential(t, "Broker Admin"))}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for range readers {
		clients.Go(func() { load.read(ctx) })
	}
	for n := range writers {
		clients.Go(func() { load.write(ctx, n) })
	}
	for range watchers {
		clients.Go(func() { load.watch(ctx) })
	}
	for i, old := range replicas {
		load.waitForMore(t)
		replicas[i] = replica()
		old.signal(t, syscall.SIGTERM)
		if code := old.end(); code != 0 {
			t.Errorf("exit status %d\n%s", code, old.stderr)
		}
		balancer.remove(old.base)
	}
	load.waitForMore(t)
	stop()
	clients.Wait()

	t.Logf("three gateways replaced: %d reads, %d writes, %d streams ended for the drain; %d failed",
		load.reads.Load(), load.writes.Load(), load.drained.Load(), len(load.failures))
	for _, failure := range load.failures[:min(len(load.failures), 10)] {
		t.Error(failure)
	}
	if load.drained.Load() < watchers {
		t.Errorf("%d streams ended for the drain, want at least %d", load.drained.Load(), watchers)
	}
	writesSeen := make(map[string]int)
	for _, call := range upstream.Calls() {
		if strings.HasSuffix(call.Method, "/CreateGroup") {
			request := call.Request.ProtoReflect()
			group := request.Get(request.Descriptor().Fields().ByName("group")).Message()
			name := group.Get(group.Descriptor().Fields().ByName("display_name")).String()
			if writesSeen[name]++; writesSeen[name] > 1 {
				t.Errorf("%s reached the upstream %d times", name, writesSeen[name])
			}
		}
	}
	if got, want := int64(len(writesSeen)), load.writes.Load(); got < want || got > want+writers {
		t.Errorf("%d writes reached the upstream, and %d were answered", got, want)
	}
}

// rollingLoad is what the clients of a rolling restart send, and what became of it. Its clients keep
// their connections. They do not repeat a request on their own.
type rollingLoad struct {
	base   string
	caller http.Header

	reads, writes, drained atomic.Int64

	mu       sync.Mutex
	failures []string
}

func (l *rollingLoad) failed(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Sprintf(format, args...))
}

// waitForMore waits until some more calls were answered.
func (l *rollingLoad) waitForMore(t *testing.T) {
	t.Helper()
	reads, writes := l.reads.Load()+100, l.writes.Load()+20
	deadline := time.After(time.Minute)
	for l.reads.Load() < reads || l.writes.Load() < writes {
		select {
		case <-deadline:
			t.Fatalf("%d reads and %d writes were answered, and no more; failures: %q", l.reads.Load(), l.writes.Load(), l.failures[:min(len(l.failures), 3)])
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (l *rollingLoad) request(ctx context.Context, method, path, body string) *http.Request {
	// Even with an empty body, net/http does not repeat a request whose body it cannot read again.
	request, err := http.NewRequestWithContext(ctx, method, l.base+path, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		panic(err) // the arguments are constants
	}
	request.ContentLength = int64(len(body))
	request.Header = l.caller.Clone()
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	return request
}

// send sends a request and reports whether it was answered with 200. An ended test is no failure.
func (l *rollingLoad) send(client *http.Client, request *http.Request) bool {
	ctx := request.Context()
	response, err := client.Do(request.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		l.failed("%s %s: %v", request.Method, request.URL.Path, err)
		return false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		l.failed("%s %s: %d %s %v", request.Method, request.URL.Path, response.StatusCode, body, err)
		return false
	}
	return true
}

// newClient returns a client with one connection that it keeps.
func newClient() (client *http.Client, closeConn func()) {
	transport := &http.Transport{MaxConnsPerHost: 1}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

func (l *rollingLoad) read(ctx context.Context) {
	client, done := newClient()
	defer done()
	for ctx.Err() == nil {
		if l.send(client, l.request(ctx, http.MethodGet, "/v1/groups/0000000000000000000000000A", "")) {
			l.reads.Add(1)
		}
	}
}

func (l *rollingLoad) write(ctx context.Context, writer int) {
	client, done := newClient()
	defer done()
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("write-%d-of-%d", n, writer)
		request := l.request(ctx, http.MethodPost, "/v1/groups", fmt.Sprintf(`{"owner": "groups/00000000000000000000BR0KER", "displayName": %q}`, name))
		request.Header["Idempotency-Key"] = []string{name}
		if l.send(client, request) {
			l.writes.Add(1)
		}
	}
}

// watch opens a stream, and another one when it has ended for the drain.
func (l *rollingLoad) watch(ctx context.Context) {
	client, done := newClient()
	defer done()
	for ctx.Err() == nil {
		response, err := client.Do(l.request(ctx, http.MethodGet, monitorPath, ""))
		if err != nil {
			if ctx.Err() == nil {
				l.failed("opening a stream: %v", err)
			}
			return
		}
		last := ""
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			last = lines.Text()
		}
		_ = response.Body.Close()
		switch {
		case ctx.Err() != nil:
		case response.StatusCode != http.StatusOK || lines.Err() != nil || !strings.Contains(last, `"DRAINING"`):
			l.failed("a stream: %d %s %v", response.StatusCode, last, lines.Err())
		default:
			l.drained.Add(1)
		}
	}
}

// balancer forwards TCP connections to gateways that are ready, in turn.
type balancer struct {
	url string

	mu       sync.Mutex
	gateways []*balanced
	next     int
}

// balanced is a gateway behind a balancer.
type balanced struct {
	base  string
	ready bool
}

// newBalancer starts a balancer that is stopped at the end of the test.
func newBalancer(t *testing.T) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{url: "http://" + listener.Addr().String()}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { b.forward(ctx, conn) })
		}
	})
	running.Go(func() {
		for ctx.Err() == nil {
			b.probe(ctx)
			wait(ctx, probePeriod)
		}
	})
	t.Cleanup(func() {
		stop()
		_ = listener.Close()
		running.Wait()
	})
	return b
}

// add adds a gateway and waits until it gets connections.
func (b *balancer) add(t *testing.T, base string) {
	t.Helper()
	b.mu.Lock()
	gateway := &balanced{base: base}
	b.gateways = append(b.gateways, gateway)
	b.mu.Unlock()
	ready := func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return gateway.ready
	}
	for deadline := time.Now().Add(time.Minute); !ready(); time.Sleep(probePeriod) {
		if time.Now().After(deadline) {
			t.Fatal("the gateway is not ready")
		}
	}
}

func (b *balancer) remove(base string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var others []*balanced
	for _, gateway := range b.gateways {
		if gateway.base != base {
			others = append(others, gateway)
		}
	}
	b.gateways = others
}

// probe asks each gateway whether it is ready.
func (b *balancer) probe(ctx context.Context) {
	b.mu.Lock()
	gateways := append([]*balanced(nil), b.gateways...)
	b.mu.Unlock()
	for _, gateway := range gateways {
		ready := false
		if request, err := http.NewRequestWithContext(ctx, http.MethodGet, gateway.base+"/readyz", nil); err == nil {
			request.Close = true
			if response, err := http.DefaultClient.Do(request); err == nil {
				ready = response.StatusCode == http.StatusOK
				_ = response.Body.Close()
			}
		}
		b.mu.Lock()
		gateway.ready = ready
		b.mu.Unlock()
	}
}

// pick returns the address of the next gateway that is ready.
func (b *balancer) pick() (address string, found bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.gateways {
		b.next++
		if gateway := b.gateways[b.next%len(b.gateways)]; gateway.ready {
			return strings.TrimPrefix(gateway.base, "http://"), true
		}
	}
	return "", false
}

// forward forwards a connection until either side closes it.
func (b *balancer) forward(ctx context.Context, client net.Conn) {
	defer client.Close()
	address, found := b.pick()
	if !found {
		return
	}
	var dialer net.Dialer
	gateway, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer gateway.Close()
	defer context.AfterFunc(ctx, func() { _, _ = client.Close(), gateway.Close() })()
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = io.Copy(gateway, client)
		_ = gateway.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, gateway)
	_ = client.Close()
	sending.Wait()
}
