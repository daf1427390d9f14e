package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/tour"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
)

// record makes the calls of the tour and returns them with their answers.
func record(ctx context.Context) ([]tour.Recording, error) {
	var recordings []tour.Recording
	var failed []error
	for _, stop := range tour.Stops() {
		recording, err := visit(ctx, stop)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s %s: %w", stop.Method, stop.Path, err))
			continue
		}
		recordings = append(recordings, recording)
	}
	return recordings, errors.Join(failed...)
}

// visit makes the call on a new sandbox, so that the answer is the same in every
// run and whatever the other calls do.
func visit(ctx context.Context, stop tour.Stop) (recording tour.Recording, err error) {
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
	handler, err := server.Routes(server.Options{
		Conn: conn, Sandbox: mesh, RequestTimeout: time.Minute, MaxBodyBytes: 1 << 20, Streams: policy.StreamLimits{PerKey: 100, All: 100},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return recording, err
	}
	gateway := httptest.NewServer(handler)
	defer gateway.Close()

	stop.Header = withRequestID(stop.Header)
	recording, status, err := stop.Record(ctx, gateway.Client(), gateway.URL)
	if err != nil {
		return recording, err
	}
	if status != stop.Status {
		return recording, fmt.Errorf("answers %d %s, want %d %s", status, recording.Answer, stop.Status, http.StatusText(stop.Status))
	}
	delete(recording.Header, "X-Request-Id")
	return recording, nil
}

// dial connects to the sandbox as the program does, so that errors read the same.
func dial(mesh *sandbox.Sandbox) (*grpc.ClientConn, error) {
	return upstream.Dial("sandbox:1", upstream.Options{Plaintext: true, Dialer: mesh.DialContext})
}

// withRequestID names the request, so that errors are the same in each run.
func withRequestID(header map[string]string) map[string]string {
	named := map[string]string{"X-Request-Id": "01JDFB3X9T0000000000000000"}
	for name, value := range header {
		named[name] = value
	}
	return named
}
