package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/gateway"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
)

// dial opens a WebSocket; it is closed with the test.
func (s streaming) dial(t *testing.T, url string, more ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	caller := sandbox.Seeded()[0]
	header := http.Header{"X-Api-Key": {caller.APIKey}, "X-Group": {caller.Group}}
	for i := 0; i+1 < len(more); i += 2 {
		header.Set(more[i], more[i+1])
	}
	conn, response, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPHeader: header})
	if conn != nil {
		t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, response, err
}

func wantMessage(t *testing.T, conn *websocket.Conn, part string) {
	t.Helper()
	kind, message, err := conn.Read(t.Context())
	if err != nil || kind != websocket.MessageText || !strings.Contains(string(message), part) {
		t.Fatalf("%s %v; want a text with %s", message, err, part)
	}
}

func wantClose(t *testing.T, conn *websocket.Conn, code websocket.StatusCode, reason string) {
	t.Helper()
	_, message, err := conn.Read(t.Context())
	closed, ok := errors.AsType[websocket.CloseError](err)
	if !ok || closed.Code != code || !strings.Contains(closed.Reason, reason) {
		t.Fatalf("%s %v; want to be closed with %d %s", message, err, code, reason)
	}
}

func TestWebSocket(t *testing.T) {
	t.Run("messages, and 1000 at the end", func(t *testing.T) {
		s := newStreaming(t)
		conn, _, err := s.dial(t, s.url)
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, conn, `{"state":"TRANSACTION_STATE_DRAFT"}`)
		for _, state := range []string{"SIGNING_IN_PROGRESS", "PENDING", "SUBMISSION_IN_PROGRESS", "SUCCESSFUL"} {
			s.tick(t, 1)
			wantMessage(t, conn, "TRANSACTION_STATE_"+state)
		}
		wantClose(t, conn, websocket.StatusNormalClosure, "")
	})
	t.Run("a late error is the close code", func(t *testing.T) {
		s := newStreaming(t)
		conn, _, err := s.dial(t, s.url, wire.SandboxFaultHeader, "drop-after-send")
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, conn, "DRAFT")
		s.tick(t, 1)
		wantClose(t, conn, 4014, "")
	})
	t.Run("drain is 1012", func(t *testing.T) {
		drain, stop := context.WithCancel(t.Context())
		defer stop()
		s := newStreaming(t, gateway.WithDrain(drain))
		conn, _, err := s.dial(t, s.url)
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, conn, "DRAFT")
		stop()
		wantClose(t, conn, websocket.StatusServiceRestart, "Connect again")
	})
	t.Run("an early refusal is a plain answer", func(t *testing.T) {
		s := newStreaming(t)
		_, response, err := s.dial(t, s.url[:strings.Index(s.url, "/v1/")]+"/v1/transactions/ZZZZZZZZZZZZZZZZZZZZZZZZZZ/state:monitor")
		if err == nil || response == nil || response.StatusCode != http.StatusNotFound {
			t.Fatalf("%v %v", response, err)
		}
	})
}

// TestDrainDuringAWrite drains while the client reads nothing and a message is on
// its way. It must still get the close code.
func TestDrainDuringAWrite(t *testing.T) {
	const messages, size = 64, 1 << 20 // more than connections buffer
	upstream := meshtest.NewUpstream(t)
	upstream.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) {
		order := &limitorderv1.LimitOrder{ExternalReference: strings.Repeat("x", size)}
		return slices.Repeat([]proto.Message{order}, messages), meshtest.ErrStayOpen
	})
	drain, stop := context.WithCancel(t.Context())
	defer stop()
	handler, err := gateway.New(upstream.Dial(t), gateway.WithDrain(drain))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	conn, _, err := streaming{}.dial(t, server.URL+"/v1/limit_orders/00000000000000000000000006:monitor")
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	if _, _, err := conn.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	for read := 1; ; read++ {
		_, _, err := conn.Read(t.Context())
		if err == nil {
			continue
		}
		if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
			t.Errorf("after %d messages: %v, want 1012", read, err)
		}
		if read == messages {
			t.Error("all messages were written before the drain")
		}
		return
	}
}

func TestWebSocketOrigins(t *testing.T) {
	const listed = "https://app.example.com"
	s := newStreaming(t, gateway.WithOrigins(listed))
	own := s.url[:strings.Index(s.url, "/v1/")]
	for _, test := range []struct {
		name, origin string
		opens        bool
	}{
		{"none, of a program", "", true},
		{"its own", own, true},
		{"one that is listed", listed, true},
		{"one that is not", "https://other.example.com", false},
		{"one that begins alike", listed + ".evil.example", false},
		{"null", "null", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, response, err := s.dial(t, s.url, "Origin", test.origin)
			if opens := err == nil; opens != test.opens {
				t.Fatalf("it opens: %t; %v", opens, err)
			}
			if test.opens {
				wantMessage(t, conn, "DRAFT")
			} else if response.StatusCode != http.StatusForbidden {
				t.Errorf("it is refused with %s", response.Status)
			}
		})
	}
}
