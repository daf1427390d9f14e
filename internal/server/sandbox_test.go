package server_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// TestWhoControlsTheSandbox calls the routes that need no key in the ways that a page in a browser
// can: for a host name that resolves to this computer, and from another origin.
func TestWhoControlsTheSandbox(t *testing.T) {
	mesh, err := sandbox.New(sandbox.WithClock(sandbox.ClockManual))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := mesh.Close(); err != nil {
			t.Error(err)
		}
	}()
	store := memstore.New(memstore.DefaultLimits())
	routes, err := server.Routes(server.Options{
		Keeper: idempotency.NewKeeper(store, slog.New(slog.DiscardHandler)), Tickets: middleware.NewSealedTickets(store),
		Metrics: telemetry.New("test"),
		Conn:    mesh.Conn(), Sandbox: mesh, PublicURL: "https://mesh.example.com/api", Logger: slog.New(slog.DiscardHandler),
		Live: server.Live{Streams: policy.StreamLimits{PerKey: 1, All: 1}, MaxBodyBytes: 1, RequestTimeout: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, host string
		header     http.Header
		want       int
	}{
		{"a program", "localhost:8080", nil, http.StatusNoContent},
		{"a loopback address", "127.0.0.1:8080", nil, http.StatusNoContent},
		{"the public host", "mesh.example.com", nil, http.StatusNoContent},
		{"the reference", "localhost:8080", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://localhost:8080"}}, http.StatusNoContent},
		{"DNS rebinding", "evil.example:8080", nil, http.StatusMisdirectedRequest},
		{"DNS rebinding, with its own origin", "evil.example:8080", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://evil.example:8080"}}, http.StatusMisdirectedRequest},
		{"a page of another site", "localhost:8080", http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{"a page of another port", "localhost:8080", http.Header{"Sec-Fetch-Site": {"same-site"}, "Origin": {"http://localhost:3000"}}, http.StatusForbidden},
		{"a page in an older browser", "localhost:8080", http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		{"a page of no origin", "localhost:8080", http.Header{"Origin": {"null"}}, http.StatusForbidden},
	} {
		for _, path := range []string{"/sandbox:reset", "/sandbox:advance?by=1s"} {
			t.Run(test.name+" "+path, func(t *testing.T) {
				r := httptest.NewRequest(http.MethodPost, path, nil)
				r.Host = test.host
				for name, values := range test.header {
					r.Header[name] = values
				}
				w := httptest.NewRecorder()
				routes.ServeHTTP(w, r)
				if w.Code != test.want {
					t.Errorf("status %d, want %d: %s", w.Code, test.want, w.Body)
				}
			})
		}
	}
}
