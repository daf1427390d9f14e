package middleware

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
)

func TestAccessLog(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		name    string
		ctx     context.Context //nolint:containedctx // a test's input
		handler http.HandlerFunc
		status  float64
		bytes   float64
	}{
		{"nothing written", nil, func(http.ResponseWriter, *http.Request) {}, 200, 0},
		{"body only", nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "12345") }, 200, 5},
		{"status", nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, 404, 0},
		{"client gone, nothing written", cancelled, func(http.ResponseWriter, *http.Request) {}, 499, 0},
		{"client gone, something written", cancelled, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }, 201, 0},
		{"aborted", nil, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 500, 0},
		{"aborted after the header", nil, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			panic(http.ErrAbortHandler)
		}, 200, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			router := chi.NewRouter()
			router.Use(RequestID(), ClientIP(nil), AccessLog(slog.New(slog.NewJSONHandler(&log, nil))))
			router.Post("/v1/groups/{id}", test.handler)

			r := headers(httptest.NewRequest(http.MethodPost, "/v1/groups/7?q=secretquery", strings.NewReader("secretbody")),
				"X-Api-Key", testKey, "Authorization", "Bearer "+testKey, "X-Request-Id", "my-id", "User-Agent", "curl/9")
			if test.ctx != nil {
				r = r.WithContext(test.ctx)
			}
			func() {
				defer func() { _ = recover() }()
				router.ServeHTTP(httptest.NewRecorder(), r)
			}()

			var record map[string]any
			if err := json.Unmarshal(log.Bytes(), &record); err != nil {
				t.Fatalf("want one record: %v in %s", err, log.String())
			}
			for name, want := range map[string]any{
				"method": "POST", "path": "/v1/groups/7", "status": test.status, "bytes": test.bytes,
				"client_ip": "192.0.2.1", "request_id": "my-id", "protocol": "HTTP/1.1", "user_agent": "curl/9", "route": "/v1/groups/{id}",
			} {
				if record[name] != want {
					t.Errorf("%s is %v, want %v", name, record[name], want)
				}
			}
			if duration, ok := record["duration_ms"].(float64); !ok || duration < 0 {
				t.Errorf("duration_ms is %v", record["duration_ms"])
			}
			for _, secret := range []string{testKey, "secretquery", "secretbody"} {
				if strings.Contains(log.String(), secret) {
					t.Errorf("%q is in the log", secret)
				}
			}
		})
	}
}

func TestAccessLogLimitsWhatAClientWrites(t *testing.T) {
	for _, test := range []struct {
		name, agent string
		want        int
	}{
		{"below", strings.Repeat("a", 199), 199},
		{"at", strings.Repeat("a", 200), 200},
		{"over", strings.Repeat("a", 201), 200},
		{"over, within a character", strings.Repeat("a", 199) + "ä", 199},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			r := headers(httptest.NewRequest(http.MethodGet, "/"+strings.Repeat("p", 2*maxLoggedPath), nil), "User-Agent", test.agent)
			AccessLog(slog.New(slog.NewJSONHandler(&log, nil)))(new(capture)).ServeHTTP(httptest.NewRecorder(), r)
			var record struct {
				UserAgent string `json:"user_agent"`
				Path      string
			}
			if err := json.Unmarshal(log.Bytes(), &record); err != nil {
				t.Fatal(err)
			}
			if len(record.UserAgent) != test.want || len(record.Path) != maxLoggedPath {
				t.Errorf("user agent of %d bytes, path of %d; want %d and %d", len(record.UserAgent), len(record.Path), test.want, maxLoggedPath)
			}
		})
	}
}

func TestAccessLogLetsStreamsFlush(t *testing.T) {
	w := httptest.NewRecorder()
	logger := slog.New(slog.DiscardHandler)
	handler := AccessLog(logger)(Recover(logger)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})))
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if !w.Flushed {
		t.Error("the flush did not get through")
	}
}
