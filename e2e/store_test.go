package e2e

import (
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/e2e/postgres"
)

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
