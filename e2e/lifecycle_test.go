package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
)

const (
	monitorPath = "/v1/limit_orders/00000000000000000000000006:monitor"
	newGroup    = `{"owner": "groups/00000000000000000000BR0KER", "displayName": "A group"}`
)

// TestEndOfLife ends the program while streams of each kind are open and calls are in flight. Every
// stream must end with an error, every call must be answered, and nothing may be sent twice.
func TestEndOfLife(t *testing.T) {
	for _, test := range []struct{ name, flag string }{
		{"HTTP/1.1", "--h2c=false"}, {"HTTP/2 with TLS", "--tls-self-signed"}, {"HTTP/2 without TLS", "--h2c"},
	} {
		t.Run(test.name, func(t *testing.T) { endOfLife(t, test.flag, strings.HasPrefix(test.name, "HTTP/2")) })
	}
}

func endOfLife(t *testing.T, flag string, http2 bool) {
	const (
		sockets, eventStreams, lineStreams = 20, 20, 10
		streams                            = sockets + eventStreams + lineStreams
		calls                              = 50
	)
	upstream := meshtest.NewUpstream(t)
	reached, held := make(chan struct{}, calls), make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(release)
	upstream.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
		answer := []proto.Message{dynamicpb.NewMessage(method.Output())}
		if method.IsStreamingServer() {
			return answer, meshtest.ErrStayOpen
		}
		reached <- struct{}{}
		<-held
		return answer, nil
	})
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", flag)
	if http2 {
		insecure := &tls.Config{InsecureSkipVerify: true}
		p.client, p.sockets = clientOf(t, true, insecure), clientOf(t, false, insecure)
	}

	opened, told, answered := make(chan struct{}, streams), make(chan error, streams), make(chan error, calls)
	open := func(n int, watch func(opened func()) error) {
		for range n {
			go func() { told <- watch(func() { opened <- struct{}{} }) }()
		}
	}
	caller := as(credential(t, "Broker Admin"))
	open(sockets, func(opened func()) error { return p.watchSocket(t, caller, opened) })
	open(eventStreams, func(opened func()) error { return p.watchEvents(t, caller, opened) })
	open(lineStreams, func(opened func()) error { return p.watchLines(t, caller, opened) })
	for range calls {
		go func() { answered <- p.createGroup(t, caller) }()
	}
	for range streams {
		receiveUnless(t, opened, told, "a stream to open")
	}
	for range calls {
		receiveUnless(t, reached, answered, "a call to reach the upstream")
	}

	p.signal(t, syscall.SIGTERM)
	for range streams {
		if err := receive(t, told, "a stream to end"); err != nil {
			t.Error(err)
		}
	}
	if conn, err := net.Dial("tcp", p.address()); err == nil {
		t.Error("the listener is still open after the streams have ended")
		conn.Close()
	}
	if len(answered) > 0 {
		t.Errorf("%d calls were answered before the upstream answered them", len(answered))
	}
	release()
	for range calls {
		if err := receive(t, answered, "a call to be answered"); err != nil {
			t.Error(err)
		}
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit status %d\n%s", code, p.stderr)
	}
	if got := len(upstream.Calls()); got != streams+calls {
		t.Errorf("the upstream was called %d times, want %d", got, streams+calls)
	}
}

// receive waits for a value, up to a time limit.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	return receiveUnless(t, from, nil, what)
}

// receiveUnless waits for a value, up to a time limit. The test ends with the outcome of whatever ends
// before.
func receiveUnless[T any](t *testing.T, from <-chan T, ended <-chan error, what string) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case err := <-ended:
		t.Fatalf("waiting for %s, but one ended: %v", what, err)
		panic("unreachable")
	case <-time.After(20 * time.Second):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}

// watchSocket reads a WebSocket until it ends, which must be with close code 1012.
func (p *program) watchSocket(t *testing.T, header http.Header, opened func()) error {
	sockets := p.sockets
	if sockets == nil {
		sockets = client
	}
	conn, response, err := websocket.Dial(t.Context(), p.base+monitorPath, &websocket.DialOptions{HTTPClient: sockets, HTTPHeader: header.Clone()})
	if err != nil {
		var body []byte
		if response != nil {
			body, _ = io.ReadAll(response.Body)
		}
		return fmt.Errorf("WebSocket: %w %s", err, body)
	}
	defer func() { _ = conn.CloseNow() }()
	if _, _, err := conn.Read(t.Context()); err != nil {
		return fmt.Errorf("WebSocket, first message: %w", err)
	}
	opened()
	if _, _, err = conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusServiceRestart {
		return fmt.Errorf("WebSocket: ended with %w, want 1012", err)
	}
	return nil
}

// watchEvents reads an event stream until it ends, which must be with an error event.
func (p *program) watchEvents(t *testing.T, header http.Header, opened func()) error {
	header = header.Clone()
	header.Set("Accept", "text/event-stream")
	rest, err := p.watch(t, header, "\n\n", opened)
	if err != nil || !strings.Contains(rest, "event: error\n") || !strings.Contains(rest, "DRAINING") {
		return fmt.Errorf("event stream: ended with %q, %v", rest, err) //nolint:errorlint // err may be nil
	}
	return nil
}

// watchLines reads a stream of lines until it ends, which must be with an error.
func (p *program) watchLines(t *testing.T, header http.Header, opened func()) error {
	rest, err := p.watch(t, header, "\n", opened)
	if err != nil || !strings.HasPrefix(rest, `{"error":{"code":14,`) || !strings.Contains(rest, "DRAINING") {
		return fmt.Errorf("lines: ended with %q, %v", rest, err) //nolint:errorlint // err may be nil
	}
	return nil
}

// watch opens a stream and returns everything after its first message.
func (p *program) watch(t *testing.T, header http.Header, separator string, opened func()) (rest string, err error) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+monitorPath, nil)
	if err != nil {
		return "", err
	}
	request.Header = header.Clone()
	response, err := p.http().Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	reader := bufio.NewReader(response.Body)
	for first := ""; !strings.HasSuffix(first, separator); {
		line, err := reader.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("first message: %w", err)
		}
		first += line
	}
	opened()
	all, err := io.ReadAll(reader)
	return string(all), err
}

// createGroup makes a write, which must succeed.
func (p *program) createGroup(t *testing.T, header http.Header) error {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/v1/groups", strings.NewReader(newGroup))
	if err != nil {
		return err
	}
	request.Header = header.Clone()
	request.Header.Set("Content-Type", "application/json")
	response, err := p.http().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("call: %s %s, %v", response.Status, body, err) //nolint:errorlint // err may be nil
	}
	return nil
}

func TestSignals(t *testing.T) {
	t.Run("SIGTERM: not ready for the delay, while requests are served", func(t *testing.T) {
		const delay = 4 * time.Second
		p := start(t, "--sandbox", "--admin-listen", "127.0.0.1:0", "--drain-delay", delay.String())
		admin := p.admin(t)
		if ready := p.call(t, "GET", "/readyz", nil, ""); ready.status != http.StatusOK {
			t.Fatalf("/readyz returned %d before the signal", ready.status)
		}
		signalled := time.Now()
		p.signal(t, syscall.SIGTERM)
		for name, listener := range map[string]*program{"public": p, "admin": admin} {
			ready := listener.call(t, "GET", "/readyz", nil, "")
			for ready.status == http.StatusOK && time.Since(signalled) < delay {
				ready = listener.call(t, "GET", "/readyz", nil, "")
			}
			if ready.status != http.StatusServiceUnavailable || ready.detail(t, "ErrorInfo")["reason"] != "DRAINING" {
				t.Errorf("/readyz of the %s listener returned %d %s", name, ready.status, ready.body)
			}
		}
		call := p.call(t, "POST", "/v1/groups", as(credential(t, "Broker Admin")), newGroup)
		if call.status != http.StatusOK {
			t.Errorf("a call during the delay returned %d %s", call.status, call.body)
		}
		if alive := admin.call(t, "GET", "/healthz", nil, ""); alive.status != http.StatusOK {
			t.Errorf("/healthz returned %d during the delay", alive.status)
		}
		if code := p.end(); code != 0 {
			t.Errorf("exit status %d\n%s", code, p.stderr)
		}
		if took := time.Since(signalled); took < delay {
			t.Errorf("the program ended after %s, before the delay of %s", took, delay)
		}
	})
	t.Run("SIGINT skips the delay", func(t *testing.T) {
		const delay = 25 * time.Second
		p := start(t, "--sandbox", "--drain-delay", delay.String())
		signalled := time.Now()
		p.signal(t, os.Interrupt)
		if code := p.end(); code != 0 {
			t.Errorf("exit status %d\n%s", code, p.stderr)
		}
		if took := time.Since(signalled); took >= delay {
			t.Errorf("the program took %s to end", took)
		}
	})
	// Nothing but the count of handlers keeps the process alive for these.
	t.Run("WebSockets are closed before the process ends", func(t *testing.T) {
		const sockets = 20
		p := start(t, "--sandbox", "--sandbox-clock", "manual")
		opened, told := make(chan struct{}, sockets), make(chan error, sockets)
		for range sockets {
			go func() {
				told <- p.watchSocket(t, as(credential(t, "Broker Admin")), func() { opened <- struct{}{} })
			}()
		}
		for range sockets {
			receiveUnless(t, opened, told, "a WebSocket to open")
		}
		p.signal(t, syscall.SIGTERM)
		for range sockets {
			if err := receive(t, told, "a WebSocket to close"); err != nil {
				t.Error(err)
			}
		}
		if code := p.end(); code != 0 {
			t.Errorf("exit status %d\n%s", code, p.stderr)
		}
	})
}

// TestEndOfLifeWithGRPC ends a program that serves its sandbox over HTTP and gRPC,
// with a call in flight over each and a gRPC stream open.
func TestEndOfLifeWithGRPC(t *testing.T) {
	p := start(t, "--sandbox", "--sandbox-clock", "manual", "--sandbox-grpc-listen", "127.0.0.1:0")
	p.endWithCalls(t, strings.TrimSuffix(strings.Fields(p.stdout.Wait(t, "gRPC"))[1], ","), p.slowCall(t))
}

// TestEndOfLifeWithoutHTTP does the same for a program without HTTP.
func TestEndOfLifeWithoutHTTP(t *testing.T) {
	p := launch(t, "sandbox", "--sandbox-clock", "manual", "--listen", "127.0.0.1:0")
	p.endWithCalls(t, strings.TrimSuffix(strings.Fields(p.stdout.Wait(t, "Mesh gRPC"))[2], ","), nil)
}

// slow is how long the sandbox takes to answer a call in flight.
const slow = "slow=2s"

// slowCall starts an HTTP call and returns when its handler reads the body.
func (p *program) slowCall(t *testing.T) <-chan error {
	t.Helper()
	begun, answered := make(chan struct{}), make(chan error, 1)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(begun) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/v1/groups", strings.NewReader(newGroup))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = as(credential(t, "Broker Admin"))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Expect", "100-continue")
	request.Header.Set("X-Sandbox-Fault", slow)
	go func() {
		response, err := client.Do(request)
		if err != nil {
			answered <- err
			return
		}
		defer response.Body.Close()
		if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
			answered <- fmt.Errorf("%s %s: %v", response.Status, body, err) //nolint:errorlint // err may be nil
			return
		}
		answered <- nil
	}()
	receive(t, begun, "the HTTP call to begin")
	return answered
}

// endWithCalls opens a stream and makes a slow call over gRPC, and ends the program. The stream must
// end before the calls have finished. If there is an httpCall, it must be answered too.
func (p *program) endWithCalls(t *testing.T, target string, httpCall <-chan error) {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	caller := credential(t, "Broker Admin")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", caller.APIKey, "x-group", caller.Group)

	stream, err := limitorderv1.NewLimitOrderServiceClient(conn).MonitorLimitOrder(ctx, &limitorderv1.MonitorLimitOrderRequest{
		Identifier: &limitorderv1.MonitorLimitOrderRequest_Name{Name: "limit_orders/00000000000000000000000006"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	// A unary call as a stream, to know when it was sent. It is in flight when the server has
	// answered a later call on the same connection.
	call, err := conn.NewStream(metadata.AppendToOutgoingContext(ctx, "x-sandbox-fault", slow), new(grpc.StreamDesc), groupv1.GroupService_CreateGroup_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := call.SendMsg(&groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: caller.Group, DisplayName: "A group"}}); err != nil {
		t.Fatal(err)
	}
	if err := call.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), new(healthv1.HealthCheckRequest)); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- call.RecvMsg(new(groupv1.Group)) }()

	p.signal(t, syscall.SIGTERM)
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("the gRPC stream ended with %v", err)
	}
	select {
	case err := <-answered:
		t.Errorf("the stream ended after the call was answered: %v", err)
	case err := <-httpCall:
		t.Errorf("the stream ended after the HTTP call was answered: %v", err)
	default:
	}
	if err := receive(t, answered, "the gRPC call to be answered"); err != nil {
		t.Errorf("the gRPC call in flight: %v", err)
	}
	if httpCall != nil {
		if err := receive(t, httpCall, "the HTTP call to be answered"); err != nil {
			t.Errorf("the HTTP call in flight: %v", err)
		}
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit status %d\n%s", code, p.stderr)
	}
}

func TestOnlyThePublicListenerLinksToTheDocs(t *testing.T) {
	p := start(t, "--sandbox", "--admin-listen", "127.0.0.1:0")
	admin := p.admin(t)
	for _, test := range []struct {
		name     string
		listener *program
		want     bool
	}{{"public", p, true}, {"admin", admin, false}} {
		t.Run(test.name, func(t *testing.T) {
			a := test.listener.call(t, "GET", "/no/such/path", nil, "")
			var st struct{ Message string }
			if err := json.Unmarshal(a.body, &st); err != nil || a.status != http.StatusNotFound {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if got := strings.Contains(st.Message, "/docs"); got != test.want {
				t.Errorf("the message is %q", st.Message)
			}
			if a := test.listener.call(t, "DELETE", "/healthz", nil, ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("DELETE /healthz: %d, Allow %q", a.status, a.header.Get("Allow"))
			}
		})
	}
}
