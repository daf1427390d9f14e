package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func loadOf(t *testing.T, handler http.HandlerFunc, warm, size int) (*load, error) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	l, err := newLoad(t.Context(), server.Listener.Addr().String(), &row{verb: "POST", path: "/", body: "{}", clients: 4}, false, warm, size)
	if err == nil {
		t.Cleanup(l.close)
	}
	return l, err
}

func TestLoadSendsAsManyRequestsAsToldAndTimesEach(t *testing.T) {
	var requests atomic.Int64
	l, err := loadOf(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		// In two chunks, as a stream.
		_, _ = w.Write([]byte("first"))
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write([]byte("second"))
	}, 4, 11)
	if err != nil {
		t.Fatal(err)
	}
	result, err := l.run(50)
	if err != nil {
		t.Fatal(err)
	}
	if got := requests.Load(); got != 54 {
		t.Errorf("%d requests, want 4 to warm up and 50", got)
	}
	if len(result.latencies) != 50 || len(result.first) != 50 {
		t.Fatalf("%d latencies and %d first events, want 50", len(result.latencies), len(result.first))
	}
	if result.latencies[0] <= 0 || result.latencies[0] > result.latencies[49] || result.first[49] > result.latencies[49] {
		t.Errorf("latencies %v and first events %v", result.latencies, result.first)
	}
}

func TestEachKeyedRequestHasANewKey(t *testing.T) {
	var mu sync.Mutex
	keys, rest := make(map[string]int), make(map[string]int)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		keys[r.Header.Get("Idempotency-Key")]++
		r.Header.Del("Idempotency-Key")
		body, _ := io.ReadAll(r.Body)
		rest[fmt.Sprintf("%s %s %v %s", r.Method, r.URL, r.Header, body)]++
	}))
	defer server.Close()
	l, err := newLoad(t.Context(), server.Listener.Addr().String(), &row{verb: "POST", path: "/", body: "{}", clients: 4}, true, 4, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if _, err := l.run(50); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 54 || keys[""] != 0 {
		t.Errorf("%d keys in 54 requests", len(keys))
	}
	if len(rest) != 1 {
		t.Errorf("the requests differ in more than the key: %v", rest)
	}
}

func TestLoadFailsOnAnAnswerThatIsNotAsExpected(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"a refusal", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte("xx"))
		}, "status 429"},
		{"another size", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("xxx")) }, "3 bytes"},
		{"the end of the connection", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			_, _ = w.Write([]byte("xx"))
		}, "closes"},
		{"a broken answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := loadOf(t, test.answer, 4, 2); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel(errors.New("enough"))
		<-r.Context().Done()
	}))
	defer server.Close()
	if _, err := newLoad(ctx, server.Listener.Addr().String(), &row{verb: "GET", path: "/", clients: 1}, false, 1, 0); err == nil {
		t.Error("no error")
	}
}

// TestAPeerThatClosesItsConnections closes each connection after its answer.
func TestAPeerThatClosesItsConnections(t *testing.T) {
	for _, test := range []struct {
		name   string
		stream bool
		fails  bool
	}{
		{"after a stream", true, false},
		{"after another answer", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
			t.Cleanup(server.Close)
			l, err := newLoad(t.Context(), server.Listener.Addr().String(), &row{verb: "GET", path: "/", stream: test.stream, clients: 4}, false, 4, 0)
			if err == nil {
				defer l.close()
				_, err = l.run(20)
			}
			if (err != nil) != test.fails {
				t.Errorf("error %v, want one: %t", err, test.fails)
			}
		})
	}
}
