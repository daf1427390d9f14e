package stores_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/idempotency/stores"
)

func TestLocation(t *testing.T) {
	for _, test := range []struct{ name, text, want, wantErr string }{
		{"memory", "memory", "memory", ""},
		{"a file", "file:/var/lib/keys.db", "file:/var/lib/keys.db", ""},
		{"a file in the directory", "file:keys.db", "file:keys.db", ""},
		{"PostgreSQL", "postgres://mesh:s3cret@db.example:5432/mesh?sslmode=verify-full", "postgres://mesh:xxxxx@db.example:5432/mesh", ""},
		{"the other name of PostgreSQL", "postgresql://db.example/mesh", "postgresql://db.example/mesh", ""},
		{"several hosts", "postgres://mesh@a.example,b.example/mesh", "postgres://mesh@a.example,b.example/mesh", ""},
		{"a password in the query", "postgres://db.example/mesh?password=s3cret", "postgres://db.example/mesh", ""},
		{"nothing", "", "", "is not a kind of store"},
		{"another store", "redis://:s3cret@db.example", "", `"redis" is not a kind of store`},
		{"a file without a path", "file:", "", "has no path"},
		{"a path without a scheme", "/var/lib/keys.db", "", "is not a kind of store"},
		{"a password with a slash", "postgres://mesh:s3cret/x@db.example/mesh", "", "%XX"},
		{"a password with a slash after digits", "postgres://mesh:1/s3cret@db.example/mesh", "", "%XX"},
		{"no such mode", "postgres://mesh:s3cret@db.example/mesh?sslmode=strict", "", "sslmode"},
	} {
		t.Run(test.name, func(t *testing.T) {
			location, err := stores.ParseLocation(test.text)
			if test.wantErr == "" && err != nil || test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
				t.Fatalf("error %v, want %q", err, test.wantErr)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error has the password: %v", err)
			}
			if err == nil && location.String() != test.want {
				t.Errorf("%s, want %s", location, test.want)
			}
			if err == nil && location.Memory() != (test.text == "memory") {
				t.Errorf("memory: %t", location.Memory())
			}
		})
	}
}

func TestOpen(t *testing.T) {
	for _, text := range []string{"memory", "file:" + filepath.Join(t.TempDir(), "keys.db")} {
		location, err := stores.ParseLocation(text)
		if err != nil {
			t.Fatal(err)
		}
		store, warnings, err := location.Open(t.Context())
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: %v, %v", text, warnings, err)
		}
		if err := store.Ping(t.Context()); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if err := store.Close(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := location.Migrate(t.Context()); err == nil {
			t.Errorf("%s was migrated", text)
		}
	}
}
