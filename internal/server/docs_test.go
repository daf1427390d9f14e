package server_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// TestRulesAreReplacedWhileServing makes a write and reads the documents before and after changes of
// the rules of access.
func TestRulesAreReplacedWhileServing(t *testing.T) {
	store := memstore.New(memstore.DefaultLimits())
	rules := new(access.Current)
	routes, err := server.Routes(server.Options{
		Keeper: idempotency.NewKeeper(store, slog.New(slog.DiscardHandler)), Tickets: middleware.NewSealedTickets(store),
		Metrics: telemetry.New("test"), Conn: meshtest.NewUpstream(t).Dial(t), Logger: slog.New(slog.DiscardHandler),
		Live:   server.Live{Streams: policy.StreamLimits{PerKey: 1, All: 1}, MaxBodyBytes: 1, RequestTimeout: time.Minute},
		Access: rules,
	})
	if err != nil {
		t.Fatal(err)
	}
	call := func(method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("X-Api-Key", strings.Repeat("k", 43))
		r.Header.Set("X-Group", "groups/00000000000000000000BR0KER")
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, r)
		return w
	}
	for _, step := range []struct {
		name   string
		config access.Config
		status int
		shown  bool
	}{
		{"at the start", access.Config{}, http.StatusOK, true},
		{"read-only", access.Config{ReadOnly: true}, http.StatusForbidden, false},
		{"open again", access.Config{}, http.StatusOK, true},
		{"disabled", access.Config{Disabled: []access.Name{"ActivateAPIUser"}}, http.StatusForbidden, false},
	} {
		t.Run(step.name, func(t *testing.T) {
			compiled, err := access.Compile(step.config)
			if err != nil {
				t.Fatal(err)
			}
			rules.Set(compiled)
			if w := call(http.MethodPost, "/v1/iam/api_users/00000000000000000000000001:activate"); w.Code != step.status {
				t.Errorf("status %d, want %d: %s", w.Code, step.status, w.Body)
			}
			for path, name := range map[string]string{"/openapi.json": `"ActivateAPIUser"`, "/openapi.yaml": "operationId: ActivateAPIUser", "/swagger.json": `"ActivateAPIUser"`, "/docs/guide": `id="ActivateAPIUser"`} {
				if shown := strings.Contains(call(http.MethodGet, path).Body.String(), name); shown != step.shown {
					t.Errorf("%s shows the operation: %t", path, shown)
				}
			}
		})
	}
}
