package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
)

const (
	// upstreamTimeout is the --request-timeout of the gateway.
	upstreamTimeout = 8 * time.Second
	// One read begins in each interval, and one write in two of them.
	loadInterval = 10 * time.Millisecond
	// maxRecovery is the time from the end of a fault, or from its beginning if it has no end, to the
	// last request that fails because of it.
	maxRecovery = 3 * time.Second
	// slack is what a busy machine may add to it.
	slack = 2 * time.Second
)

// TestUpstreamOutages sends reads and writes at a steady rate while the upstream and the network to it
// fail, and compares what the clients were told with what the upstream did. FAULT_REPORT is a file
// that the figures are appended to.
func TestUpstreamOutages(t *testing.T) {
	restart := func(after time.Duration) func(*upstreamFault) {
		return func(f *upstreamFault) {
			f.proxy.kill()
			<-time.After(after)
			f.proxy.listen(f.t)
		}
	}
	for _, test := range []struct {
		name    string
		fault   func(*upstreamFault)
		options []grpc.ServerOption
		// lossless is whether no read may fail, and harmless whether no write may either.
		lossless, harmless bool
		// left is whether connections are left because they are silent.
		left bool
	}{
		{name: "kill and restart after 0.3 s", fault: restart(300 * time.Millisecond), lossless: true},
		{name: "kill and restart after 1 s", fault: restart(time.Second), lossless: true},
		{name: "kill and restart after 3 s", fault: restart(3 * time.Second), lossless: true},
		{name: "blackhole for 5 s", left: true, fault: func(f *upstreamFault) {
			f.proxy.silence(true)
			<-time.After(5 * time.Second)
			f.proxy.silence(false)
		}},
		{name: "reset of all connections, three times", lossless: true, fault: func(f *upstreamFault) {
			for range 3 {
				f.proxy.reset()
				<-time.After(300 * time.Millisecond)
			}
		}},
		{name: "slow link for 4 s", lossless: true, harmless: true, fault: func(f *upstreamFault) {
			// A large reply takes most of the time, and nothing else arrives whole meanwhile.
			f.proxy.bytesPerSecond.Store(128 << 10)
			f.background(func() { f.send("large", http.MethodGet, groupPath(largeGroup), "") })
			<-time.After(4 * time.Second)
			f.proxy.bytesPerSecond.Store(0)
		}},
		{name: "GOAWAY", lossless: true, harmless: true, fault: func(f *upstreamFault) {
			other := f.serve()
			f.proxy.setTarget(other.target)
			f.mesh.server.GracefulStop()
		}},
		{name: "silent connections", left: true, lossless: true, fault: func(f *upstreamFault) {
			f.proxy.silence(false)
			f.endsItself = false
		}},
		{name: "10 streams per connection", options: []grpc.ServerOption{grpc.MaxConcurrentStreams(10)}, lossless: true, harmless: true,
			fault: func(f *upstreamFault) {
				for i := range 60 {
					f.openStream(i)
				}
				<-time.After(time.Second)
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := &upstreamFault{t: t, options: test.options, endsItself: true, calls: make(map[string]int)}
			f.mesh = f.serve()
			f.proxy = startProxy(t, f.mesh.target)
			f.run(test.fault)
			figures := f.figures()
			report(t, fmt.Sprintf("upstream, %s: %s\n", test.name, figures))
			switch {
			case figures.readsSent == 0 || figures.writesSent == 0:
				t.Error("there was no load")
			case test.lossless && figures.readsLost > 0:
				t.Errorf("%d reads were lost:\n%s", figures.readsLost, f.failures())
			case test.harmless && figures.writesFailed > 0:
				t.Errorf("%d writes failed:\n%s", figures.writesFailed, f.failures())
			}
			if figures.doubled > 0 || figures.wrongNotSent > 0 || figures.wrongDone > 0 {
				t.Error("a write was doubled, or its answer was wrong")
			}
			if limit := maxRecovery + slack; figures.recovery > limit && !raceDetector {
				t.Errorf("recovery took %s, want at most %s; the last failures:\n%s", figures.recovery, limit, f.failures())
			}
			if left := figures.left > 0; left != test.left {
				t.Errorf("%d connections were left", figures.left)
			}
		})
	}
}

// upstreamFault is a run with one fault.
type upstreamFault struct {
	t       *testing.T
	options []grpc.ServerOption
	mesh    *countingMesh
	proxy   *proxy
	gateway *program
	client  *http.Client
	// endsItself is whether the fault has ended when its function returns. Otherwise the gateway has
	// to end it.
	endsItself bool
	ended      time.Time
	requests   sync.WaitGroup

	mu      sync.Mutex
	calls   map[string]int // of the upstream, by the id of the request
	answers []upstreamAnswer
}

// upstreamAnswer is how a request ended.
type upstreamAnswer struct {
	requestID string
	begin     time.Time
	status    int // 0 if there was no answer
	notSent   bool
	text      string
}

// run applies the fault to a gateway under load.
func (f *upstreamFault) run(fault func(*upstreamFault)) {
	f.gateway = start(f.t, "--upstream", f.proxy.address, "--upstream-plaintext", "--admin-listen", "127.0.0.1:0",
		"--request-timeout", upstreamTimeout.String(), "--rate-limit-read", "0", "--rate-limit-write", "0")
	transport := &http.Transport{MaxIdleConnsPerHost: 1000}
	f.client = &http.Client{Transport: transport}
	f.t.Cleanup(transport.CloseIdleConnections)
	f.send("first", http.MethodGet, groupPath(faultGroup), "") // it waits for the connections

	ctx, stop := context.WithCancel(f.t.Context())
	var load sync.WaitGroup
	load.Go(func() { f.load(ctx) })
	<-time.After(300 * time.Millisecond)
	f.ended = time.Now()
	fault(f)
	settle := time.Second
	if f.endsItself {
		f.ended = time.Now()
	} else {
		settle += maxRecovery + slack
	}
	<-time.After(settle)
	stop()
	load.Wait()
	f.requests.Wait()
}

// background runs a request that the run waits for.
func (f *upstreamFault) background(request func()) { f.requests.Go(request) }

// load begins requests at a steady rate, however long they take.
func (f *upstreamFault) load(ctx context.Context) {
	ticker := time.NewTicker(loadInterval)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		f.background(func() { f.send(fmt.Sprint("read-", i), http.MethodGet, groupPath(faultGroup), "") })
		if i%2 == 0 {
			f.background(func() {
				body := fmt.Sprintf(`{"owner": %q, "displayName": "a user"}`, faultGroup)
				f.send(fmt.Sprint("write-", i), http.MethodPost, "/v1/iam/api_users", body)
			})
		}
	}
}

// largeGroup is a group whose display name is long.
const largeGroup = "groups/0000000000000000000000MANY"

func groupPath(name string) string { return "/v1/" + name }

// request returns a request with an id.
func (f *upstreamFault) request(ctx context.Context, id, method, path, body string) *http.Request {
	r, err := http.NewRequestWithContext(ctx, method, f.gateway.base+path, strings.NewReader(body))
	if err != nil {
		panic(err) // the paths are those above
	}
	r.Header = http.Header{"X-Api-Key": {faultAPIKey}, "X-Group": {faultGroup}, "X-Request-Id": {id}}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// send sends a request and records the answer.
func (f *upstreamFault) send(id, method, path, body string) {
	a := upstreamAnswer{requestID: id, begin: time.Now()}
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.answers = append(f.answers, a)
	}()
	response, err := f.client.Do(f.request(context.Background(), id, method, path, body))
	if err != nil {
		a.text = err.Error()
		return
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.text = err.Error()
		return
	}
	a.status = response.StatusCode
	if a.status == http.StatusOK {
		return
	}
	a.text = string(text)
	var refusal struct {
		Details []struct {
			Metadata map[string]string `json:"metadata"`
		} `json:"details"`
	}
	_ = json.Unmarshal(text, &refusal) // the text is in the report
	for _, detail := range refusal.Details {
		a.notSent = a.notSent || detail.Metadata["sent"] == "false"
	}
}

// openStream opens a stream until the end of the test, and waits for its first message.
func (f *upstreamFault) openStream(number int) {
	ctx, end := context.WithCancel(context.Background())
	f.t.Cleanup(end)
	path := fmt.Sprintf("/v1/limit_orders/%026d:monitor", number)
	response, err := f.client.Do(f.request(ctx, fmt.Sprint("stream-", number), http.MethodGet, path, ""))
	if err != nil {
		f.t.Error(err)
		return
	}
	f.t.Cleanup(func() { _ = response.Body.Close() })
	if _, err := response.Body.Read(make([]byte, 1)); err != nil || response.StatusCode != http.StatusOK {
		f.t.Errorf("stream %d: %d %v", number, response.StatusCode, err)
	}
}

// figures are the results of a run.
type figures struct {
	readsSent, readsLost         int
	writesSent, writesFailed     int
	upstreamCalls, doubled       int
	wrongNotSent, wrongDone      int
	recovery                     time.Duration
	retries, waits, probes, left int
}

func (r figures) String() string {
	return fmt.Sprintf("%d reads sent, %d lost; %d writes sent, %d failed, %d upstream calls, %d doubled, %d wrong \"nothing was sent\"; "+
		"recovery %.1f s; %d retries, %d waits, %d probes, %d connections left",
		r.readsSent, r.readsLost, r.writesSent, r.writesFailed, r.upstreamCalls, r.doubled, r.wrongNotSent,
		r.recovery.Seconds(), r.retries, r.waits, r.probes, r.left)
}

// figures compares the answers with the calls of the upstream.
func (f *upstreamFault) figures() figures {
	admin := f.gateway.admin(f.t).call(f.t, http.MethodGet, "/metrics", nil, "")
	metric := func(name string) int {
		match := regexp.MustCompile(`(?m)^mesh_gateway_upstream_` + name + `_total (\d+)$`).FindSubmatch(admin.body)
		if match == nil {
			f.t.Fatalf("no metric of %s", name)
		}
		n, _ := strconv.Atoi(string(match[1]))
		return n
	}
	r := figures{retries: metric("retries"), waits: metric("waits"), probes: metric("probes"), left: metric("connections_left")}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.answers {
		failed, calls := a.status != http.StatusOK, f.calls[a.requestID]
		if strings.HasPrefix(a.requestID, "write") {
			r.writesSent++
			r.upstreamCalls += calls
			switch {
			case calls > 1:
				r.doubled++
			case !failed && calls == 0:
				r.wrongDone++
			case failed && a.notSent && calls > 0:
				r.wrongNotSent++
			}
			if failed {
				r.writesFailed++
			}
		} else {
			r.readsSent++
			if failed {
				r.readsLost++
			}
		}
		if failed {
			r.recovery = max(r.recovery, a.begin.Sub(f.ended))
		}
	}
	return r
}

// failures returns the last answers that say that a request failed.
func (f *upstreamFault) failures() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var texts []string
	for _, a := range f.answers {
		if a.status != http.StatusOK {
			texts = append(texts, fmt.Sprintf("%s, %.1f s after the fault: %d %s", a.requestID, a.begin.Sub(f.ended).Seconds(), a.status, a.text))
		}
	}
	return strings.Join(texts[max(0, len(texts)-10):], "\n")
}

// countingMesh is an upstream that counts the calls of a run.
type countingMesh struct {
	groupv1.UnimplementedGroupServiceServer
	apiuserv1.UnimplementedAPIUserServiceServer
	limitorderv1.UnimplementedLimitOrderServiceServer

	target string
	server *grpc.Server
	run    *upstreamFault
}

// serve starts an upstream that is stopped at the end of the test.
func (f *upstreamFault) serve() *countingMesh {
	f.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	m := &countingMesh{target: listener.Addr().String(), server: grpc.NewServer(f.options...), run: f}
	groupv1.RegisterGroupServiceServer(m.server, m)
	apiuserv1.RegisterAPIUserServiceServer(m.server, m)
	limitorderv1.RegisterLimitOrderServiceServer(m.server, m)
	done := make(chan error, 1)
	go func() { done <- m.server.Serve(listener) }()
	f.t.Cleanup(func() {
		m.server.Stop()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
	})
	return m
}

// work counts a call, and takes a little time.
func (m *countingMesh) work(ctx context.Context) {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("x-request-id")) == 1 {
		m.run.mu.Lock()
		m.run.calls[md.Get("x-request-id")[0]]++
		m.run.mu.Unlock()
	}
	wait(ctx, 5*time.Millisecond)
}

// GetGroup implements the service.
func (m *countingMesh) GetGroup(ctx context.Context, request *groupv1.GetGroupRequest) (*groupv1.Group, error) {
	m.work(ctx)
	name := "a group"
	if request.GetName() == largeGroup {
		name = strings.Repeat(name, 50_000)
	}
	return &groupv1.Group{Name: request.GetName(), Owner: faultGroup, DisplayName: name}, nil
}

// CreateAPIUser implements the service.
func (m *countingMesh) CreateAPIUser(ctx context.Context, request *apiuserv1.CreateAPIUserRequest) (*apiuserv1.APIUser, error) {
	m.work(ctx)
	return &apiuserv1.APIUser{Owner: faultGroup, DisplayName: request.GetApiUser().GetDisplayName()}, nil
}

// MonitorLimitOrder implements the service.
func (m *countingMesh) MonitorLimitOrder(request *limitorderv1.MonitorLimitOrderRequest, stream grpc.ServerStreamingServer[limitorderv1.LimitOrder]) error {
	if err := stream.Send(&limitorderv1.LimitOrder{Name: request.GetName()}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}
