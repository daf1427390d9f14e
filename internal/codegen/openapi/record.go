package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// record makes the example calls and returns them with their responses.
func record(ctx context.Context) ([]examples.Recording, error) {
	var recordings []examples.Recording
	var failed []error
	for _, call := range examples.Calls() {
		recording, err := visit(ctx, call)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s %s: %w", call.Method, call.Path, err))
			continue
		}
		recordings = append(recordings, recording)
	}
	return recordings, errors.Join(failed...)
}

// visit makes the call on a new sandbox, so that the response is the same in every run and does not
// depend on other calls.
func visit(ctx context.Context, call examples.Call) (recording examples.Recording, err error) {
	mesh, err := sandbox.New(sandbox.WithSeed(1), sandbox.WithClock(sandbox.ClockManual))
	if err != nil {
		return recording, err
	}
	defer func() { err = errors.Join(err, mesh.Close()) }()
	conn, err := dial(mesh)
	if err != nil {
		return recording, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	store := memstore.New(memstore.DefaultLimits())
	handler, err := server.Routes(server.Options{
		Keeper: idempotency.NewKeeper(store, slog.New(slog.DiscardHandler)), Tickets: middleware.NewSealedTickets(store),
		Conn: conn, Sandbox: mesh, Live: server.Live{RequestTimeout: time.Minute, MaxBodyBytes: 1 << 20, Streams: policy.StreamLimits{PerKey: 100, All: 100}},
		Metrics: telemetry.New(""), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return recording, err
	}
	gateway := httptest.NewServer(handler)
	defer gateway.Close()

	call.Header = withRequestID(call.Header)
	recording, status, err := call.Record(ctx, gateway.Client(), gateway.URL)
	if err != nil {
		return recording, err
	}
	if status != call.Status {
		return recording, fmt.Errorf("answers %d %s, want %d %s", status, recording.Answer, call.Status, http.StatusText(call.Status))
	}
	delete(recording.Header, wire.RequestIDHeader)
	return recording, nil
}

// dial connects to the sandbox in the same way as the program, so that errors have the same text.
func dial(mesh *sandbox.Sandbox) (*upstream.Pool, error) {
	return upstream.Dial("sandbox:1", upstream.Options{Plaintext: true, Dialer: mesh.DialContext})
}

// withRequestID sets a fixed request ID, so that errors are the same in each run.
func withRequestID(header map[string]string) map[string]string {
	named := map[string]string{wire.RequestIDHeader: "01JDFB3X9T0000000000000000"}
	for name, value := range header {
		named[name] = value
	}
	return named
}
