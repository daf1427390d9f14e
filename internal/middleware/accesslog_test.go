package middleware

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
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
			router.Use(RequestID(), ClientIP(nil), Observe(AccessLog(slog.New(slog.NewJSONHandler(&log, nil)), 1)), Route)
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

func TestAccessLogLimitsValuesOfClients(t *testing.T) {
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
			Observe(AccessLog(slog.New(slog.NewJSONHandler(&log, nil)), 1))(new(capture)).ServeHTTP(httptest.NewRecorder(), r)
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
	handler := Observe(AccessLog(logger, 1))(Recover(logger)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})))
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if !w.Flushed {
		t.Error("the response was not flushed")
	}
}

// logged serves a request with AccessLog, Recover and the handler, and returns the log record.
func logged(t *testing.T, r *http.Request, handler http.Handler) map[string]any {
	t.Helper()
	var log bytes.Buffer
	func() {
		defer func() { _ = recover() }()
		Observe(AccessLog(slog.New(slog.NewJSONHandler(&log, nil)), 1))(Recover(slog.New(slog.DiscardHandler))(handler)).ServeHTTP(httptest.NewRecorder(), r)
	}()
	var record map[string]any
	if err := json.Unmarshal(log.Bytes(), &record); err != nil {
		t.Fatalf("want one record: %v in %s", err, log.String())
	}
	return record
}

func TestAccessLogRecordsErrors(t *testing.T) {
	unreachable := func(w http.ResponseWriter, _ *http.Request) {
		apierror.Write(w, apierror.New(codes.Unavailable, apierror.UpstreamUnreachable, "not now").
			WithCause(errors.New("dial tcp 10.0.0.1:443: refused")))
	}
	for _, test := range []struct {
		name                       string
		handler                    http.HandlerFunc
		level, code, reason, cause any
	}{
		{"no error", func(http.ResponseWriter, *http.Request) {}, "INFO", nil, nil, nil},
		{"an error of the gateway", func(w http.ResponseWriter, _ *http.Request) {
			apierror.Write(w, apierror.New(codes.NotFound, apierror.UnknownPath, "nothing here"))
		}, "INFO", "NOT_FOUND", "UNKNOWN_PATH", nil},
		{"an error with a cause", unreachable, "WARN", "UNAVAILABLE", "UPSTREAM_UNREACHABLE", "dial tcp 10.0.0.1:443: refused"},
		{"a status of the upstream", func(w http.ResponseWriter, r *http.Request) {
			st, err := status.New(codes.Canceled, "no").WithDetails(&errdetails.ErrorInfo{Reason: "ITS_OWN", Domain: "mesh.trade"})
			if err != nil {
				t.Error(err)
			}
			apierror.Write(w, st.Err())
		}, "INFO", "CANCELLED", nil, nil},
		{"an error without a status", func(w http.ResponseWriter, _ *http.Request) {
			apierror.Write(w, errors.New("disk full"))
		}, "ERROR", "INTERNAL", "INTERNAL", "disk full"},
		{"a panic", func(http.ResponseWriter, *http.Request) { panic("boom") }, "ERROR", "INTERNAL", "INTERNAL", "panic: boom"},
		{"a panic after the response began", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			panic("boom")
		}, "INFO", "INTERNAL", "INTERNAL", "panic: boom"},
		{"an abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "ERROR", nil, nil, nil},
		{"the end of a stream", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			apierror.Observe(w, status.Error(codes.Unavailable, "the market closed"))
		}, "INFO", "UNAVAILABLE", nil, nil},
		{"an error that replaced another", func(w http.ResponseWriter, _ *http.Request) {
			apierror.Observe(w, errors.New("lost"))
			apierror.Write(w, status.Error(codes.NotFound, "no"))
		}, "INFO", "NOT_FOUND", nil, nil},
		{"from another goroutine", func(w http.ResponseWriter, _ *http.Request) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				apierror.Observe(w, status.Error(codes.Aborted, "lost"))
			}()
			apierror.Observe(w, status.Error(codes.Aborted, "lost"))
			<-done
		}, "INFO", "ABORTED", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			record := logged(t, httptest.NewRequest(http.MethodGet, "/", nil), test.handler)
			for name, want := range map[string]any{"level": test.level, "code": test.code, "reason": test.reason, "cause": test.cause} {
				if record[name] != want {
					t.Errorf("%s is %v, want %v", name, record[name], want)
				}
			}
		})
	}
}

func TestAccessLogLimitsTheCause(t *testing.T) {
	for _, test := range []struct {
		name         string
		length, want int
	}{{"below", 499, 499}, {"at", 500, 500}, {"over", 501, 500}} {
		t.Run(test.name, func(t *testing.T) {
			record := logged(t, httptest.NewRequest(http.MethodGet, "/", nil), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				apierror.Write(w, errors.New(strings.Repeat("c", test.length)))
			}))
			if cause, _ := record["cause"].(string); len(cause) != test.want {
				t.Errorf("%d bytes, want %d", len(cause), test.want)
			}
		})
	}
}

func TestAccessLogMasksKeysInACause(t *testing.T) {
	for _, test := range []struct {
		name string
		sent []string
		late string // a key that a middleware adds to the request
		text string
	}{
		{"the key", []string{"X-Api-Key", testKey}, "", "x-api-key: " + testKey + " is bad"},
		{"twice", []string{"X-Api-Key", testKey}, "", testKey + testKey},
		{"one of two keys", []string{"X-Api-Key", otherKey, "X-Api-Key", testKey}, "", "is " + testKey},
		{"a bearer token", []string{"Authorization", "Bearer  " + testKey}, "", "is " + testKey},
		{"a malformed key", []string{"X-Api-Key", testKey[:40]}, "", "is " + testKey[:40]},
		{"a key added by a middleware", nil, testKey, "is " + testKey},
		{"a key where the cause is truncated", []string{"X-Api-Key", testKey}, "", strings.Repeat("c", maxLoggedCause-20) + testKey},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, handler := range map[string]http.HandlerFunc{
				"cause": func(w http.ResponseWriter, _ *http.Request) { apierror.Write(w, errors.New(test.text)) },
				"panic": func(http.ResponseWriter, *http.Request) { panic(test.text) },
			} {
				record := logged(t, headers(httptest.NewRequest(http.MethodGet, "/", nil), test.sent...), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if test.late != "" {
						r.Header.Set("X-Api-Key", test.late)
					}
					handler(w, r)
				}))
				if cause, _ := record["cause"].(string); strings.Contains(cause, testKey[:10]) || !strings.Contains(cause, "[redacted") {
					t.Errorf("%s: cause is %q", name, cause)
				}
			}
		})
	}
}

func TestAccessLogNamesTheMethod(t *testing.T) {
	method := contract.ByName(streamMethod)
	setPattern := func(pattern string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if pattern != "" {
				r = r.WithContext(r.Context()) // as the gateway does, on a copy
				r.Pattern = pattern
			}
			next.ServeHTTP(w, r)
		})
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	var log bytes.Buffer
	router := chi.NewRouter()
	router.Use(Observe(AccessLog(slog.New(slog.NewJSONHandler(&log, nil)), 1)), Route)
	router.Handle("/v1/pattern", setPattern("GET /v1/{name=limit_orders/*}:monitor", Method(method)(ok)))
	router.Handle("/v1/*", setPattern("", Method(method)(ok)))
	router.Handle("/docs/*", ok)

	for _, test := range []struct {
		name, path string
		rpc, route any
	}{
		{"the gateway's pattern", "/v1/pattern", streamMethod, "/v1/{name=limit_orders/*}:monitor"},
		{"only the pattern of the router", "/v1/x", streamMethod, "/v1/*"},
		{"a route outside the API", "/docs/index.html", nil, "/docs/*"},
		{"no route", "/nothing", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			log.Reset()
			router.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, test.path, nil))
			var record map[string]any
			if err := json.Unmarshal(log.Bytes(), &record); err != nil {
				t.Fatal(err)
			}
			if record["rpc"] != test.rpc || record["route"] != test.route {
				t.Errorf("rpc %v, route %v; want %v, %v", record["rpc"], record["route"], test.rpc, test.route)
			}
		})
	}
}
