package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/gateway"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

const monitor = "/v1/limit_orders/01ARZ3NDEKTSV4RRFFQ69G5FAV:monitor"

// framings are the headers that ask for each framing of a stream.
var framings = map[string]http.Header{
	"lines":  {"Accept": {"application/x-ndjson"}},
	"events": {"Accept": {"text/event-stream"}},
	"a WebSocket": {"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}},
}

// serveUpstream serves a gateway over the upstream.
func serveUpstream(t *testing.T, conn grpc.ClientConnInterface, opts ...gateway.Option) string {
	t.Helper()
	handler, err := gateway.New(conn, opts...)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func get(t *testing.T, verb, url string, header http.Header) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), verb, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header.Clone()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// TestARefusalAfterTheHeadersIsAPlainAnswer has an upstream that accepts a call, by
// sending headers, and then refuses it.
func TestARefusalAfterTheHeadersIsAPlainAnswer(t *testing.T) {
	for name, header := range framings {
		t.Run(name, func(t *testing.T) {
			upstream := meshtest.NewUpstream(t)
			upstream.SendHeadersFirst()
			upstream.Fail(status.New(codes.NotFound, "no such order"))
			response := get(t, http.MethodGet, serveUpstream(t, upstream.Dial(t))+monitor, header)
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != http.StatusNotFound || response.Header.Get("Content-Type") != "application/json" ||
				!strings.HasPrefix(string(body), `{"code":5,"message":"no such order"`) {
				t.Errorf("%s %s: %s", response.Status, response.Header.Get("Content-Type"), body)
			}
		})
	}
}

// TestASilentStreamIsOpenedAfterOneInterval has an upstream that accepts a call and
// says nothing.
func TestASilentStreamIsOpenedAfterOneInterval(t *testing.T) {
	want := map[string]int{"lines": http.StatusOK, "events": http.StatusOK, "a WebSocket": http.StatusSwitchingProtocols}
	for name, header := range framings {
		t.Run(name, func(t *testing.T) {
			upstream, release := silent(t)
			defer release()
			url := serveUpstream(t, upstream.Dial(t), gateway.WithKeepAlive(20*time.Millisecond))
			if response := get(t, http.MethodGet, url+monitor, header); response.StatusCode != want[name] {
				t.Errorf("%s", response.Status)
			}
		})
	}
}

// silent is an upstream that answers only once it is released.
func silent(t *testing.T) (*meshtest.Upstream, func()) {
	t.Helper()
	upstream, released := meshtest.NewUpstream(t), make(chan struct{})
	upstream.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) { <-released; return nil, nil })
	return upstream, func() { close(released) }
}

// TestHeadOfAStream wants the headers that GET would answer with, and an end.
func TestHeadOfAStream(t *testing.T) {
	t.Run("one that is accepted", func(t *testing.T) {
		s := newStreaming(t) // its order never ends
		response := get(t, http.MethodHead, s.url, http.Header{"Accept": {"text/event-stream"}, "X-Api-Key": {testCaller().APIKey}, "X-Group": {testCaller().Group}})
		body, err := io.ReadAll(response.Body)
		if err != nil || len(body) > 0 || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%s %s %q %v", response.Status, response.Header.Get("Content-Type"), body, err)
		}
	})
	t.Run("one that is refused", func(t *testing.T) {
		upstream := meshtest.NewUpstream(t)
		upstream.Fail(status.New(codes.NotFound, "no such order"))
		if response := get(t, http.MethodHead, serveUpstream(t, upstream.Dial(t))+monitor, nil); response.StatusCode != http.StatusNotFound {
			t.Errorf("%s", response.Status)
		}
	})
	t.Run("its call ends", func(t *testing.T) {
		upstream, release := silent(t)
		defer release()
		conn := &watchedConn{ClientConnInterface: upstream.Dial(t), ended: make(chan time.Time, 1)}
		get(t, http.MethodHead, serveUpstream(t, conn, gateway.WithKeepAlive(time.Millisecond))+monitor, nil)
		select {
		case <-conn.ended:
		case <-time.After(10 * time.Second):
			t.Error("the call upstream goes on")
		}
	})
}

// countingConn counts the calls that reach the upstream.
type countingConn struct {
	grpc.ClientConnInterface
	streams atomic.Int32
}

func (c *countingConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c.streams.Add(1)
	return c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// TestABadHandshakeIsRefusedBeforeTheUpstreamIsCalled wants the one shape of errors,
// too.
func TestABadHandshakeIsRefusedBeforeTheUpstreamIsCalled(t *testing.T) {
	for _, test := range []struct {
		name, header, value string
		status              int
		want                string
	}{
		{"another version", "Sec-WebSocket-Version", "8", 400, "Sec-WebSocket-Version: 13"},
		{"no key", "Sec-WebSocket-Key", "", 400, "Sec-WebSocket-Key must be 16 bytes in base64"},
		{"a short key", "Sec-WebSocket-Key", "c2hvcnQ=", 400, "Sec-WebSocket-Key must be 16 bytes in base64"},
		{"a connection that is not upgraded", "Connection", "keep-alive", 400, "Connection: Upgrade"},
		{"a foreign origin", "Origin", "https://evil.example", 403, "https://evil.example are not allowed to open"},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := meshtest.NewUpstream(t)
			conn := &countingConn{ClientConnInterface: upstream.Dial(t)}
			header := framings["a WebSocket"].Clone()
			header.Set(test.header, test.value)
			response := get(t, http.MethodGet, serveUpstream(t, conn)+monitor, header)
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || !strings.HasPrefix(string(body), `{"code":`) || !strings.Contains(string(body), test.want) {
				t.Errorf("%s: %s", response.Status, body)
			}
			if n := conn.streams.Load(); n > 0 {
				t.Errorf("%d streams were opened", n)
			}
		})
	}
}

// TestAnInvalidRequestOpensNoStream checks the request before the stream is opened.
func TestAnInvalidRequestOpensNoStream(t *testing.T) {
	conn := &countingConn{ClientConnInterface: meshtest.NewUpstream(t).Dial(t)}
	response := get(t, http.MethodGet, serveUpstream(t, conn)+"/v1/limit_orders/me:monitor", nil)
	if n := conn.streams.Load(); response.StatusCode != http.StatusBadRequest || n > 0 {
		t.Errorf("%s, %d streams were opened", response.Status, n)
	}
}

// TestDrainReachesAStreamThatWaits drains while the upstream is silent.
func TestDrainReachesAStreamThatWaits(t *testing.T) {
	upstream, release := silent(t)
	defer release()
	drain, stop := context.WithCancel(t.Context())
	url := serveUpstream(t, upstream.Dial(t), gateway.WithDrain(drain), gateway.WithKeepAlive(10*time.Millisecond))
	conn, _, err := websocket.Dial(t.Context(), url+monitor, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	stop()
	wantClose(t, conn, websocket.StatusServiceRestart, "Connect again")
}
