package deadline_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/deadline"
)

// timeout is the limit in the tests. Those that wait for it to pass wait twice as long.
const timeout = 150 * time.Millisecond

// large is more than the buffers of a connection hold, in bytes.
const large = 32 << 20

// serve serves handler with the timeout. Over HTTP/2 the server uses TLS.
func serve(t *testing.T, http2 bool, limit time.Duration, handler func(w *deadline.Writer, r *http.Request)) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dw := deadline.NewWriter(w, r, limit)
		handler(dw, r)
		dw.Finish()
	}))
	server.EnableHTTP2 = http2
	if http2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}

// protocols runs a test over HTTP/1.1 and HTTP/2.
func protocols(t *testing.T, test func(t *testing.T, http2 bool)) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) { test(t, http2) })
	}
}

func get(t *testing.T, server *httptest.Server) *http.Response {
	t.Helper()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// TestAClientThatDoesNotRead has each way to write. The write must fail, and the handler return.
func TestAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(w *deadline.Writer) error{
		"one write": func(w *deadline.Writer) error { _, err := w.Write(make([]byte, large)); return err },
		"a reader":  func(w *deadline.Writer) error { _, err := io.Copy(w, bytes.NewReader(make([]byte, large))); return err },
		"small writes with flushes": func(w *deadline.Writer) error {
			for range large / 1000 {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return err
				}
				if err := w.FlushError(); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			protocols(t, func(t *testing.T, http2 bool) {
				failed := make(chan error, 1)
				server := serve(t, http2, timeout, func(w *deadline.Writer, _ *http.Request) { failed <- write(w) })
				get(t, server) // and no more
				if err := receive(t, failed); err == nil {
					t.Error("a response that nobody reads was written")
				} else if !http2 && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the write failed with %v, want the deadline", err)
				}
			})
		})
	}
}

// TestTheServerClosesTheConnection has a response that the server writes after the handler has
// returned.
func TestTheServerClosesTheConnection(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dw := deadline.NewWriter(w, r, timeout)
		dw.Header().Set("X-Padding", strings.Repeat("x", 4000))
		dw.Finish()
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A client that sends requests and reads no response. The write may fail once the server has
	// closed the connection.
	go func() {
		for range large / 1000 {
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"); err != nil {
				return
			}
		}
	}()
	receive(t, closed)
}

// TestAClientThatReadsSlowly takes longer for the whole response than the timeout.
func TestAClientThatReadsSlowly(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	protocols(t, func(t *testing.T, http2 bool) {
		server := serve(t, http2, limit, func(w *deadline.Writer, _ *http.Request) {
			if _, err := w.Write(make([]byte, large)); err != nil {
				t.Error(err)
			}
		})
		response := get(t, server)
		begin := time.Now()
		tick := time.NewTicker(limit * 3 / 2 / 32)
		defer tick.Stop()
		for range 32 {
			<-tick.C
			if _, err := io.CopyN(io.Discard, response.Body, large/32); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took < limit {
			t.Errorf("it took %s, which does not test anything", took)
		}
	})
}

// TestAPause has a stream on which nothing is written for longer than the timeout.
func TestAPause(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, http2 bool) {
		server := serve(t, http2, timeout, func(w *deadline.Writer, r *http.Request) {
			for _, part := range []string{"first\n", "second\n"} {
				if _, err := io.WriteString(w, part); err != nil {
					t.Errorf("%q: %v", part, err)
				}
				if part == "first\n" {
					w.Flush()
				}
				pause(r.Context())
			}
			_, _ = io.WriteString(w, "third\n")
		})
		body, err := io.ReadAll(get(t, server).Body)
		if string(body) != "first\nsecond\nthird\n" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	})
}

// TestTheNextResponse has a connection that is used again after the deadline of the first response.
func TestTheNextResponse(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, http2 bool) {
		addresses := make(chan string, 2)
		server := serve(t, http2, timeout, func(w *deadline.Writer, r *http.Request) {
			addresses <- r.RemoteAddr
			_, _ = io.WriteString(w, "a response")
		})
		for range 2 {
			response := get(t, server)
			if body, err := io.ReadAll(response.Body); string(body) != "a response" || err != nil {
				t.Errorf("%q, %v", body, err)
			}
			_ = response.Body.Close()
			pause(t.Context())
		}
		if first, second := <-addresses, <-addresses; first != second {
			t.Errorf("connections from %s and %s, want one", first, second)
		}
	})
}

// TestHijack has a connection that is used for longer than the timeout after it was hijacked.
func TestHijack(t *testing.T) {
	t.Parallel()
	server := serve(t, false, timeout, func(w *deadline.Writer, r *http.Request) {
		conn, _, err := w.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		w.Finish()
		pause(context.WithoutCancel(r.Context()))
		_, _ = io.WriteString(conn, "hijacked\n")
		_ = conn.Close()
	})
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hijacked\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
}

// recorder counts the deadlines of a connection.
type recorder struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (r *recorder) SetWriteDeadline(at time.Time) error {
	r.deadlines = append(r.deadlines, at)
	return nil
}

func TestDeadlinesAreNotSetForEachWrite(t *testing.T) {
	r := &recorder{ResponseRecorder: httptest.NewRecorder()}
	w := deadline.NewWriter(r, httptest.NewRequest(http.MethodGet, "/", nil), time.Hour)
	for range 1000 {
		_, _ = io.WriteString(w, "a message")
		w.Flush()
	}
	w.Finish()
	if len(r.deadlines) != 1 || r.Body.String() != strings.Repeat("a message", 1000) {
		t.Errorf("%d deadlines, want 1; %d bytes", len(r.deadlines), r.Body.Len())
	}
}

func TestAWriterWithoutDeadlines(t *testing.T) {
	r := httptest.NewRecorder()
	w := deadline.NewWriter(r, httptest.NewRequest(http.MethodGet, "/", nil), time.Minute)
	n, err := w.Write(make([]byte, 100<<10))
	if n != 100<<10 || err != nil || r.Body.Len() != n {
		t.Errorf("%d bytes, %v; %d were written", n, err, r.Body.Len())
	}
}

// pause waits until a deadline has passed.
func pause(ctx context.Context) {
	timer := time.NewTimer(2 * timeout)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(30 * time.Second):
		t.Fatal("nothing happened in 30 seconds")
		panic("not reached")
	}
}

func BenchmarkWrite(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dw := deadline.NewWriter(w, r, time.Minute)
		b.ReportAllocs()
		for b.Loop() {
			_, _ = dw.Write([]byte("a"))
		}
	}))
	defer server.Close()
	response, err := http.Get(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
}
