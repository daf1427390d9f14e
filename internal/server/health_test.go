package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/health"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// TestReady reads /readyz for checks that fail and succeed.
func TestReady(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.1:5432: password s3cret")
	check := func(name string, weight health.Weight, reason apierror.Reason, err error) health.Check {
		return health.Check{Name: name, Weight: weight, Reason: reason, Problem: "The " + name + " is lost.", Run: func(context.Context) error { return err }}
	}
	upstream := func(err error) health.Check {
		return check("upstream", health.Required, apierror.UpstreamUnreachable, err)
	}
	ok := map[string]any{"name": "upstream", "ok": true}
	for _, test := range []struct {
		name   string
		checks []health.Check
		want   map[string]any // without details that every error has
	}{
		{"no checks", nil, map[string]any{"status": "ready", "checks": []any{}}},
		{"all succeed", []health.Check{upstream(nil)}, map[string]any{"status": "ready", "checks": []any{ok}}},
		{"one that does not matter fails", []health.Check{upstream(nil), check("redis", health.Advisory, "", secret)},
			map[string]any{"status": "ready", "checks": []any{ok, map[string]any{"name": "redis", "ok": false, "problem": "The redis is lost."}}}},
		{"the upstream fails", []health.Check{upstream(secret)},
			map[string]any{"code": 14.0, "message": "The upstream is lost. Try again later.", "reason": "UPSTREAM_UNREACHABLE", "failed": []any{"upstream: The upstream is lost."}}},
		{"several fail", []health.Check{check("redis", health.Advisory, "", secret), check("audit", health.Required, "", secret), upstream(secret)},
			map[string]any{"code": 14.0, "message": "The audit is lost. The upstream is lost. Try again later.", "reason": "NOT_READY",
				"failed": []any{"redis: The redis is lost.", "audit: The audit is lost.", "upstream: The upstream is lost."}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			options := server.Options{Health: health.New(slog.New(slog.DiscardHandler), test.checks...), Metrics: telemetry.New("test")}
			response := httptest.NewRecorder()
			server.AdminRoutes(options).ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			var got map[string]any
			if err := json.Unmarshal(response.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			status := http.StatusOK
			if test.want["code"] != nil {
				status = http.StatusServiceUnavailable
				details, _ := got["details"].([]any)
				delete(got, "details")
				for _, detail := range details {
					detail, _ := detail.(map[string]any)
					if reason, ok := detail["reason"]; ok {
						got["reason"] = reason
					}
					if violations, ok := detail["violations"].([]any); ok {
						var failed []any
						for _, violation := range violations {
							violation, _ := violation.(map[string]any)
							failed = append(failed, violation["subject"].(string)+": "+violation["description"].(string))
						}
						got["failed"] = failed
					}
				}
			}
			if response.Code != status {
				t.Errorf("status %d, want %d", response.Code, status)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(response.Body.String(), "s3cret") {
				t.Errorf("%s", response.Body)
			}
		})
	}
}
