package server_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"github.com/meshtrade/mesh-gateway/internal/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDrain ends the server while a request is in flight, which must finish.
func TestDrain(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := server.New(slog.New(slog.DiscardHandler), 0)
	address, err := s.Listen("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "done")
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	answered := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + address.String())
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answered <- string(body)
	}()
	<-entered
	stop()
	close(release)
	if got := <-answered; got != "done" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestCloseGivesUpThePort(t *testing.T) {
	s := server.New(slog.New(slog.DiscardHandler), 0)
	address, err := s.Listen("127.0.0.1:0", http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(address.String(), http.NotFoundHandler()); err == nil {
		t.Error("a port is listened on twice")
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
