package server_test

import (
	"log/slog"
	"net/http"
	"testing"

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
