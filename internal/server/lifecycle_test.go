package server_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// running is a running server with one handler and the admin routes.
type running struct {
	*server.Server
	address, admin string
	stop           context.CancelCauseFunc
	ended          chan error
}

func run(t *testing.T, delay, timeout time.Duration, handler func(s *server.Server, w http.ResponseWriter, r *http.Request)) *running {
	t.Helper()
	s := server.New(slog.New(slog.DiscardHandler), delay)
	s.SetTimeout(timeout)
	address, err := s.Listen("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(s, w, r) }))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := s.ListenAdmin("127.0.0.1:0", server.AdminRoutes(server.Options{Stopping: s.Stopping(), Metrics: telemetry.New("test")}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	r := &running{s, address.String(), admin.String(), stop, make(chan error, 1)}
	go func() { r.ended <- s.Run(ctx) }()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return r
}

// get sends a request in the background and returns a channel that receives the body or the error.
func (r *running) get() <-chan string {
	got := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + r.address)
		if err != nil {
			got <- err.Error()
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			got <- err.Error()
			return
		}
		got <- string(body)
	}()
	return got
}

func (r *running) status(t *testing.T, url string) int {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// refuses reports whether connections to address fail.
func refuses(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return err != nil
}

const longTimeout = 20 * time.Second

func TestShutdownOrder(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := run(t, 0, longTimeout, func(_ *server.Server, w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "done")
	})
	got := r.get()
	<-entered
	r.stop(nil)

	<-r.Draining().Done()
	if r.Stopping().Err() == nil {
		t.Error("the server is ready after streams have ended")
	}
	if !refuses(r.address) {
		t.Error("connections are accepted after streams have ended")
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503} {
		if status := r.status(t, "http://"+r.admin+path); status != want {
			t.Errorf("with a call in flight, %s of the admin listener returns %d, want %d", path, status, want)
		}
	}
	select {
	case err := <-r.ended:
		t.Errorf("Run returned with a call in flight: %v", err)
	default:
	}
	close(release)
	if body := <-got; body != "done" {
		t.Errorf("the call in flight received %q", body)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if !refuses(r.admin) {
		t.Error("the admin listener is still open")
	}
}

func TestShutdownDelay(t *testing.T) {
	const delay = 500 * time.Millisecond
	r := run(t, delay, longTimeout, func(*server.Server, http.ResponseWriter, *http.Request) {})
	begin := time.Now()
	r.stop(nil)
	<-r.Stopping().Done()
	response, err := http.Get("http://" + r.address)
	if err != nil {
		t.Fatalf("a request during the delay: %v", err)
	}
	response.Body.Close()
	if !response.Close {
		t.Error("the connection is not closed after the response")
	}
	if r.Draining().Err() != nil {
		t.Error("streams ended during the delay")
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < delay {
		t.Errorf("the shutdown took %s, want at least %s", took, delay)
	}
}

// TestShutdownWaitsForHijackedConnections shuts down a server while a handler has hijacked its
// connection, as a WebSocket handler does.
func TestShutdownWaitsForHijackedConnections(t *testing.T) {
	hijacked, release := make(chan struct{}), make(chan struct{})
	r := run(t, 0, longTimeout, func(s *server.Server, w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		close(hijacked)
		<-s.Draining().Done()
		<-release
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
	})
	got := r.get()
	<-hijacked
	r.stop(nil)
	<-r.Draining().Done()
	select {
	case err := <-r.ended:
		t.Errorf("Run returned while a handler was running: %v", err)
	case <-time.After(100 * time.Millisecond): // http.Server.Shutdown returns at once
	}
	close(release)
	if body := <-got; body != "done" {
		t.Errorf("the client received %q", body)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

func TestShutdownTimeout(t *testing.T) {
	const timeout = 200 * time.Millisecond
	hijack := func(w http.ResponseWriter) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			t.Cleanup(func() { conn.Close() })
		}
	}
	for _, test := range []struct {
		name    string
		handler func(w http.ResponseWriter, r *http.Request, never <-chan struct{})
		want    string // what the client receives, or "" if the connection is broken
	}{
		{"a call that returns when its context is cancelled", func(w http.ResponseWriter, r *http.Request, _ <-chan struct{}) {
			<-r.Context().Done()
			_, _ = io.WriteString(w, context.Cause(r.Context()).Error())
		}, context.DeadlineExceeded.Error()},
		{"a call that ignores its context", func(_ http.ResponseWriter, _ *http.Request, never <-chan struct{}) { <-never }, ""},
		{"a hijacked connection", func(w http.ResponseWriter, _ *http.Request, never <-chan struct{}) { hijack(w); <-never }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			never, entered := make(chan struct{}), make(chan struct{})
			left := make(chan struct{})
			r := run(t, 0, timeout, func(_ *server.Server, w http.ResponseWriter, r *http.Request) {
				defer close(left)
				close(entered)
				test.handler(w, r, never)
			})
			got := r.get()
			<-entered
			begin := time.Now()
			r.stop(nil)
			err := <-r.ended
			if took := time.Since(begin); took < timeout || took > longTimeout {
				t.Errorf("the shutdown took %s", took)
			}
			if err == nil || !strings.Contains(err.Error(), "cut off") || !strings.Contains(err.Error(), "1 in flight") || !strings.Contains(err.Error(), r.address) {
				t.Errorf("Run returned %v", err)
			}
			close(never)
			<-left
			if test.want != "" {
				if body := <-got; body != test.want {
					t.Errorf("the client received %q, want %q", body, test.want)
				}
			}
		})
	}
	t.Run("a longer delay", func(t *testing.T) {
		r := run(t, time.Hour, timeout, func(*server.Server, http.ResponseWriter, *http.Request) {})
		r.stop(nil)
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
	})
}

// broken is a service whose listener fails.
type broken struct{ err error }

func (b broken) Serve(net.Listener) error     { return b.err }
func (broken) Shutdown(context.Context) error { return nil }
func (broken) Close() error                   { return nil }

func TestFailingServiceStopsTheServer(t *testing.T) {
	s := server.New(slog.New(slog.DiscardHandler), time.Hour)
	if _, err := s.Listen("127.0.0.1:0", http.NotFoundHandler()); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no more files")
	if _, err := s.ListenService("127.0.0.1:0", broken{failure}); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, failure) {
		t.Errorf("Run returned %v", err)
	}
}

func TestNotReadyWhileStopping(t *testing.T) {
	stopping, stop := context.WithCancel(t.Context())
	stop()
	response := httptest.NewRecorder()
	server.AdminRoutes(server.Options{Stopping: stopping, Metrics: telemetry.New("test")}).ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if response.Code != http.StatusServiceUnavailable || !strings.Contains(response.Body.String(), "DRAINING") {
		t.Errorf("%d %s", response.Code, response.Body)
	}
}
