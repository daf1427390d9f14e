package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/server"
)

// TestHijackedConnectionsCount hijacks the only connection that is allowed, as a WebSocket does.
func TestHijackedConnectionsCount(t *testing.T) {
	connections := server.NewConnections(server.ConnectionLimits{All: 1}, slog.New(slog.DiscardHandler))
	hijacked := make(chan net.Conn, 1)
	address := serveLimited(t, connections, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		hijacked <- conn
	})
	if _, err := fmt.Fprint(dial(t, address), "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	conn := <-hijacked
	if connections.Open() != 1 {
		t.Errorf("%d connections are open, want 1", connections.Open())
	}
	if _, err := dial(t, address).Read(make([]byte, 1)); err == nil {
		t.Error("a second connection is served")
	}
	if connections.RefusedByAll() != 1 {
		t.Errorf("%d connections were refused, want 1", connections.RefusedByAll())
	}
	for range 2 { // the second fails, and does not count
		_ = conn.Close()
	}
	if connections.Open() != 0 {
		t.Errorf("%d connections are open, want 0", connections.Open())
	}
}

func TestConnectionsOfATrustedProxy(t *testing.T) {
	for _, test := range []struct {
		name    string
		trusted string
		refused uint64
	}{
		{"trusted", "127.0.0.0/8", 0},
		{"trusted as an IPv4-mapped network", "::ffff:127.0.0.0/104", 0},
		{"another is", "192.0.2.0/24", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			connections := server.NewConnections(server.ConnectionLimits{
				Address: 1, Trusted: []netip.Prefix{netip.MustParsePrefix(test.trusted)},
			}, slog.New(slog.DiscardHandler))
			address := serveLimited(t, connections, func(http.ResponseWriter, *http.Request) {})
			for i := range 2 {
				conn := dial(t, address)
				_, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n")
				if err == nil {
					_, err = bufio.NewReader(conn).ReadString('\n')
				}
				if served := err == nil; served != (i == 0 || test.refused == 0) {
					t.Errorf("connection %d is served: %t", i, served)
				}
			}
			if got := connections.RefusedByAddress(); got != test.refused {
				t.Errorf("%d connections were refused, want %d", got, test.refused)
			}
		})
	}
}

// serveLimited serves the handler until the test ends and returns its address.
func serveLimited(t *testing.T, connections *server.Connections, handler http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- s.Serve(connections.Limit(listener)) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func dial(t *testing.T, address string) io.ReadWriteCloser {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}
