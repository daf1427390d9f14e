package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/e2e/postgres"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
)

// TestResetForgetsKeys repeats a write after a reset of the sandbox, with the key of a write
// before it. Only a store in memory belongs to the sandbox alone.
func TestResetForgetsKeys(t *testing.T) {
	for _, test := range []struct {
		name, store, replayed string
	}{
		{"memory", "memory", ""},
		{"file", "file:" + filepath.Join(t.TempDir(), "keys.db"), "true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, "--sandbox", "--store", test.store)
			admin := credential(t, "Broker Admin")
			create := func(replayed string) {
				t.Helper()
				header := as(admin)
				header.Set("Idempotency-Key", "create-desk")
				a := p.call(t, http.MethodPost, "/v1/iam/api_users", header, `{"owner": "`+admin.Group+`", "displayName": "Desk"}`)
				if got := a.header.Get("Idempotent-Replayed"); a.status != http.StatusOK || got != replayed {
					t.Errorf("%d, Idempotent-Replayed %q, want %q: %s", a.status, got, replayed, a.body)
				}
			}
			create("")
			create("true")
			if a := p.call(t, http.MethodPost, "/sandbox:reset", nil, ""); a.status != http.StatusNoContent {
				t.Fatalf("%d %s", a.status, a.body)
			}
			create(test.replayed)
		})
	}
}

// TestReplayedRefusal repeats writes that Mesh refused.
func TestReplayedRefusal(t *testing.T) {
	p := start(t, "--sandbox")
	admin, roleless := credential(t, "Broker Admin"), credential(t, "Roleless")
	const missing = "/v1/iam/api_users/00000000000000000000000000:activate"
	for _, test := range []struct {
		name   string
		as     sandbox.Credential
		path   string
		body   string
		status int
	}{
		{"not found", admin, missing, "", http.StatusNotFound},
		{"permission denied", roleless, "/v1/iam/api_users", `{"owner": "` + roleless.Group + `", "displayName": "Desk"}`, http.StatusForbidden},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := as(test.as)
			header.Set("Idempotency-Key", strings.ReplaceAll(test.name, " ", "-"))
			for _, replayed := range []string{"", "true"} {
				a := p.call(t, http.MethodPost, test.path, header, test.body)
				if got := a.header.Get("Idempotent-Replayed"); a.status != test.status || got != replayed {
					t.Errorf("%d, Idempotent-Replayed %q, want %d and %q: %s", a.status, got, test.status, replayed, a.body)
				}
			}
		})
	}
}

// TestStoreOfAnOperator prepares a database, and prepares it again.
func TestStoreOfAnOperator(t *testing.T) {
	url := postgres.Start(t, "synchronous_commit=off").URL()
	for _, step := range []struct {
		name, command  string
		code           int
		stdout, stderr string
	}{
		{"no tables", "list", 1, "", "store migrate"},
		{"the first time", "migrate", 0, "applied migrations/0001", ""},
		{"again", "migrate", 0, "up to date", ""},
		{"tables", "list", 0, "STATE", "synchronous_commit of PostgreSQL is off"},
	} {
		code, stdout, stderr := command(t, "store", step.command, "--store", url)
		if code != step.code || !strings.Contains(stdout, step.stdout) || !strings.Contains(stderr, step.stderr) {
			t.Errorf("%s: exit status %d\n%s%s", step.name, code, stdout, stderr)
		}
	}
}
