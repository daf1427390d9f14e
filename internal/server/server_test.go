package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshtrade/mesh-gateway/internal/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCloseReleasesThePort(t *testing.T) {
	s := server.New(slog.New(slog.DiscardHandler), 0)
	address, err := s.Listen("127.0.0.1:0", http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(address.String(), http.NotFoundHandler()); err == nil {
		t.Error("Listen succeeded twice for the same port")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := server.New(slog.New(slog.DiscardHandler), 0)
	if _, err := again.Listen(address.String(), http.NotFoundHandler()); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestEveryListenerHasAWriteTimeout has clients that do not read what the handlers write.
func TestEveryListenerHasAWriteTimeout(t *testing.T) {
	failed := make(chan error, 2)
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := io.Copy(w, bytes.NewReader(make([]byte, 64<<20)))
		failed <- err
	})
	s := server.New(slog.New(slog.DiscardHandler), 0)
	s.SetWriteTimeout(100 * time.Millisecond)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	for _, listen := range []func(string, http.Handler) (net.Addr, error){s.Listen, s.ListenAdmin} {
		address, err := listen("127.0.0.1:0", handler)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", address.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	go func() { ended <- s.Run(ctx) }()
	for range 2 {
		select {
		case err := <-failed:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the response ended with %v, want the deadline", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a response that nobody reads has not ended")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
