package middleware

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

func TestRecover(t *testing.T) {
	for _, test := range []struct {
		name, method string
		handler      http.HandlerFunc
		status       int  // of the response
		aborted      bool // instead of a response
		logged       bool
		message      string
	}{
		{"no panic", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, http.StatusTeapot, false, false, ""},
		{"panic on a read", http.MethodGet, func(http.ResponseWriter, *http.Request) { panic("boom") }, 500, false, true, "Report this problem"},
		{"panic on a write", http.MethodPost, func(http.ResponseWriter, *http.Request) { panic(errors.New("boom")) }, 500, false, true, "may or may not"},
		{"panic after setting headers", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			w.Header().Set("Content-Encoding", "gzip")
			panic("boom")
		}, 500, false, true, "Report this problem"},
		{"panic after the header was written", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			panic("boom")
		}, 0, true, true, ""},
		{"abort", http.MethodGet, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, true, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			w := httptest.NewRecorder()
			handler := RequestID()(Observe()(Recover(slog.New(slog.NewTextHandler(&log, nil)))(test.handler)))
			aborted := func() (value any) {
				defer func() { value = recover() }()
				handler.ServeHTTP(w, headers(httptest.NewRequest(test.method, "/v1/groups?secret=query", nil), "X-Request-Id", "my-id", "X-Api-Key", testKey))
				return nil
			}()
			if (aborted == any(http.ErrAbortHandler)) != test.aborted || !test.aborted && aborted != nil {
				t.Fatalf("panicked with %v, aborted wanted: %t", aborted, test.aborted)
			}
			if got := log.String(); test.logged != (strings.Contains(got, "boom") && strings.Contains(got, "my-id") && strings.Contains(got, "recover_test.go")) {
				t.Errorf("log %q", got)
			}
			if strings.Contains(log.String(), testKey) || strings.Contains(log.String(), "secret") {
				t.Errorf("the log contains a key or the query: %q", log.String())
			}
			if test.aborted {
				return
			}
			if test.status != 500 {
				if w.Code != test.status {
					t.Errorf("status %d, want %d", w.Code, test.status)
				}
				return
			}
			reason := apierror.Internal
			if test.method == http.MethodPost {
				reason = apierror.OutcomeUnknown
			}
			message := wantError(t, w, 500, reason)
			if !strings.Contains(message, test.message) || strings.Contains(message, "boom") {
				t.Errorf("message %q", message)
			}
			if w.Header().Get("Content-Encoding") != "" {
				t.Error("the response has Content-Encoding")
			}
		})
	}
}

func TestRecoverAbortsAResponseThatHasBegun(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	s := httptest.NewServer(Observe(AccessLog(logger, 1))(Recover(logger)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "part")
		_ = http.NewResponseController(w).Flush()
		panic("boom")
	}))))
	defer s.Close()
	response, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("the client received a partial response without an error")
	}
}
