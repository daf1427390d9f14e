package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/meshtrade/mesh-gateway/gateway"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
		os.Exit(code)
	}))
}

// streaming is a gateway over a sandbox whose clock is moved by hand, and the URL of
// a transaction that changes with the time.
type streaming struct {
	sandbox *sandbox.Sandbox
	url     string
}

func newStreaming(t *testing.T, opts ...gateway.Option) streaming {
	t.Helper()
	mesh, err := sandbox.New(sandbox.WithClock(sandbox.ClockManual))
	if err != nil {
		t.Fatal(err)
	}
	handler, err := gateway.New(mesh.Conn(), append(opts, gateway.WithForwardedHeaders(wire.SandboxFaultHeader))...)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		if err := mesh.Close(); err != nil {
			t.Error(err)
		}
	})
	caller := sandbox.Seeded()[0]
	opened, err := accountv1.NewAccountServiceClient(mesh.Conn()).OpenAccount(
		metadata.AppendToOutgoingContext(t.Context(), "x-api-key", caller.APIKey, "x-group", caller.Group),
		&accountv1.OpenAccountRequest{Name: "accounts/00000000000000000000000005"})
	if err != nil {
		t.Fatal(err)
	}
	return streaming{mesh, server.URL + "/v1/" + opened.GetLedgerTransaction() + "/state:monitor"}
}

func (s streaming) tick(t *testing.T, ticks int) {
	t.Helper()
	if err := s.sandbox.Advance(time.Duration(ticks) * 250 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
}

// open opens a stream, which ends with the test.
func (s streaming) open(t *testing.T, url, accept string, more ...string) (*http.Response, *bufio.Reader) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	caller := sandbox.Seeded()[0]
	request.Header = http.Header{"X-Api-Key": {caller.APIKey}, "X-Group": {caller.Group}, "Accept": {accept}}
	for i := 0; i+1 < len(more); i += 2 {
		request.Header.Set(more[i], more[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response, bufio.NewReader(response.Body)
}

// event reads one event and returns its name, id and data. It skips comments and
// retry.
func event(t *testing.T, reader *bufio.Reader) (name, id, data string) {
	t.Helper()
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended without an event: %v", err)
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if name != "" {
				return name, id, data
			}
		}
	}
}

func wantEvent(t *testing.T, reader *bufio.Reader, name, part string) (id string) {
	t.Helper()
	gotName, id, data := event(t, reader)
	if gotName != name || !strings.Contains(data, part) {
		t.Fatalf("event %s: %s; want %s with %s", gotName, data, name, part)
	}
	return id
}

func TestEventStream(t *testing.T) {
	s := newStreaming(t)
	response, reader := s.open(t, s.url, "text/event-stream")
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// Each event comes before the next is there to be had.
	wantEvent(t, reader, "message", `{"state":"TRANSACTION_STATE_DRAFT"}`)
	for _, state := range []string{"SIGNING_IN_PROGRESS", "PENDING", "SUBMISSION_IN_PROGRESS", "SUCCESSFUL"} {
		s.tick(t, 1)
		wantEvent(t, reader, "message", "TRANSACTION_STATE_"+state)
	}
	wantEvent(t, reader, "end", "{}")
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q %v", rest, err)
	}
}

func TestStreamsAreLinesByDefault(t *testing.T) {
	for _, accept := range []string{"*/*", "application/json", "application/x-ndjson", "text/event-stream;q=0.5, application/x-ndjson"} {
		t.Run(accept, func(t *testing.T) {
			s := newStreaming(t)
			response, reader := s.open(t, s.url, accept)
			if got := response.Header.Get("Content-Type"); got != "application/x-ndjson" {
				t.Errorf("Content-Type is %q", got)
			}
			first, err := reader.ReadString('\n')
			if err != nil || first != `{"state":"TRANSACTION_STATE_DRAFT"}`+"\n" {
				t.Fatalf("%q %v", first, err)
			}
			s.tick(t, 4)
			rest, err := io.ReadAll(reader)
			if err != nil || strings.Count(string(rest), "\n") != 4 {
				t.Errorf("%q %v", rest, err)
			}
		})
	}
}

func TestAnIdleStreamHasKeepAlives(t *testing.T) {
	s := newStreaming(t, gateway.WithKeepAlive(10*time.Millisecond))
	_, reader := s.open(t, s.url, "text/event-stream")
	wantEvent(t, reader, "message", "DRAFT")
	for beats := 0; beats < 3; {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == ": keep-alive\n" {
			beats++
		}
	}
	s.tick(t, 4)
	wantEvent(t, reader, "message", "SIGNING")
}

func TestLastEventIDSkipsTheMessageSeen(t *testing.T) {
	s := newStreaming(t)
	_, reader := s.open(t, s.url, "text/event-stream")
	seen := wantEvent(t, reader, "message", "DRAFT")
	_, again := s.open(t, s.url, "text/event-stream", "Last-Event-ID", seen)
	s.tick(t, 1)
	wantEvent(t, again, "message", "SIGNING")
	_, other := s.open(t, s.url, "text/event-stream", "Last-Event-ID", seen)
	wantEvent(t, other, "message", "SIGNING") // it has changed since
}

func TestStreamRefusals(t *testing.T) {
	for _, test := range []struct {
		name, path, fault, accept string
		status                    int
		media                     string
	}{
		{"early, as events", "/v1/transactions/ZZZZZZZZZZZZZZZZZZZZZZZZZZ/state:monitor", "", "text/event-stream", 404, "application/json"},
		{"early, as lines", "/v1/transactions/ZZZZZZZZZZZZZZZZZZZZZZZZZZ/state:monitor", "", "application/x-ndjson", 404, "application/json"},
		{"early, a broken rule", "/v1/transactions/me/state:monitor", "", "text/event-stream", 400, "application/json"},
		{"late, as events", "", "drop-after-send", "text/event-stream", 200, "text/event-stream"},
		{"late, as lines", "", "drop-after-send", "application/x-ndjson", 200, "application/x-ndjson"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStreaming(t)
			url := s.url
			if test.path != "" {
				url = strings.SplitAfter(s.url, "://")[0] + strings.Split(s.url, "/")[2] + test.path
			}
			response, reader := s.open(t, url, test.accept, wire.SandboxFaultHeader, test.fault)
			if response.StatusCode != test.status || response.Header.Get("Content-Type") != test.media {
				t.Fatalf("%s, %s", response.Status, response.Header.Get("Content-Type"))
			}
			s.tick(t, 1) // what comes late comes with the second message
			body, err := io.ReadAll(reader)
			if err != nil {
				t.Fatal(err)
			}
			blocks := strings.Split(strings.TrimSpace(string(body)), "\n")
			last := blocks[len(blocks)-1]
			switch {
			case test.status != 200:
				if !strings.HasPrefix(last, `{"code":`) {
					t.Errorf("the answer is %s", last)
				}
			case test.media == "text/event-stream":
				if !strings.Contains(string(body), "event: message\n") || !strings.HasSuffix(string(body), "\n\n") ||
					!strings.HasPrefix(last, `data: {"code":14`) || blocks[len(blocks)-2] != "event: error" {
					t.Errorf("the stream ends %s", body)
				}
			default:
				if !strings.HasPrefix(last, `{"error":{"code":14`) {
					t.Errorf("the last line is %s", last)
				}
			}
		})
	}
}

func TestDrainEndsStreams(t *testing.T) {
	for _, test := range []struct{ accept, last string }{
		{"text/event-stream", `data: {"code":14,`}, {"application/x-ndjson", `{"error":{"code":14,`},
	} {
		t.Run(test.accept, func(t *testing.T) {
			drain, stop := context.WithCancel(t.Context())
			defer stop()
			s := newStreaming(t, gateway.WithDrain(drain))
			_, reader := s.open(t, s.url, test.accept)
			if _, err := reader.ReadString('}'); err != nil { // it runs
				t.Fatal(err)
			}
			stop()
			body, err := io.ReadAll(reader)
			if err != nil || !strings.Contains(string(body), test.last) || !strings.Contains(string(body), "DRAINING") {
				t.Errorf("it ends %q %v", body, err)
			}
		})
	}
}

// TestAClientThatLeavesEndsTheCall closes the connection of a client and waits for its
// upstream call to end. One try of ten must be in time, since a busy machine may be slow
// now and then.
func TestAClientThatLeavesEndsTheCall(t *testing.T) {
	const soon, tries = 100 * time.Millisecond, 10
	for _, accept := range []string{"application/x-ndjson", "text/event-stream", "a WebSocket"} {
		t.Run(accept, func(t *testing.T) {
			mesh, err := sandbox.New(sandbox.WithClock(sandbox.ClockManual))
			if err != nil {
				t.Fatal(err)
			}
			upstream := &watchedConn{ClientConnInterface: mesh.Conn(), ended: make(chan time.Time, tries)}
			handler, err := gateway.New(upstream)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(handler)
			t.Cleanup(func() {
				server.Close()
				if err := mesh.Close(); err != nil {
					t.Error(err)
				}
			})
			url := server.URL + "/v1/limit_orders/00000000000000000000000002:monitor"
			best := time.Hour
			for try := 0; try < tries && best > soon; try++ {
				leave := watching(t, url, accept)
				left := time.Now()
				leave()
				select {
				case ended := <-upstream.ended:
					best = min(best, ended.Sub(left))
				case <-time.After(10 * time.Second):
					t.Fatal("the call goes on")
				}
			}
			if best > soon {
				t.Errorf("the call ended %s later at best, want %s", best, soon)
			}
		})
	}
}

// watching opens a stream and waits for its first message; leave closes the connection
// without a close frame.
func watching(t *testing.T, url, accept string) (leave func()) {
	t.Helper()
	if accept != "a WebSocket" {
		response, reader := streaming{}.open(t, url, accept)
		if _, err := reader.ReadString('}'); err != nil {
			t.Fatal(err)
		}
		return func() { _ = response.Body.Close() }
	}
	caller := sandbox.Seeded()[0]
	conn, response, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{
		HTTPHeader: http.Header{"X-Api-Key": {caller.APIKey}, "X-Group": {caller.Group}}})
	if err != nil {
		t.Fatal(err)
	}
	if response.Body != nil {
		defer response.Body.Close()
	}
	if _, _, err := conn.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() { _ = conn.CloseNow() }
}

// TestASlowReaderIsDropped sends to a client that does not read. What is kept for the
// client meanwhile is bounded by the buffers of the sockets.
func TestASlowReaderIsDropped(t *testing.T) {
	for _, headers := range []string{
		"Accept: application/x-ndjson\r\n",
		"Accept: text/event-stream\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
	} {
		t.Run(strings.Fields(headers)[1], func(t *testing.T) {
			ended := make(chan struct{})
			handler, err := gateway.New(flood{ended}, gateway.WithWriteTimeout(50*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(handler)
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /v1/limit_orders/00000000000000000000000002:monitor HTTP/1.1\r\nHost: here\r\n"+headers+"\r\n"); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Fatal("the stream goes on although nobody reads it")
			}
		})
	}
}

// flood is an upstream that sends without end, as fast as its stream is read.
type flood struct{ ended chan struct{} }

func (f flood) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return errors.New("only streams here")
}

func (f flood) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	context.AfterFunc(ctx, func() { close(f.ended) })
	return floodStream{ctx: ctx}, nil
}

type floodStream struct {
	grpc.ClientStream
	ctx context.Context
}

func (s floodStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (s floodStream) Trailer() metadata.MD         { return nil }
func (s floodStream) Context() context.Context     { return s.ctx }
func (s floodStream) SendMsg(any) error            { return nil }
func (s floodStream) CloseSend() error             { return nil }
func (s floodStream) RecvMsg(m any) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	order, ok := m.(*limitorderv1.LimitOrder)
	if !ok {
		return fmt.Errorf("%T is no limit order", m)
	}
	order.ExternalReference = strings.Repeat("x", 4096)
	return nil
}

// watchedConn reports when the context of a stream ends.
type watchedConn struct {
	grpc.ClientConnInterface
	ended chan time.Time
}

func (c *watchedConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	context.AfterFunc(ctx, func() { c.ended <- time.Now() })
	return c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// testCaller is the sandbox's administrator.
func testCaller() sandbox.Credential { return sandbox.Seeded()[0] }
