package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/filestore"
)

// storeFile returns a file with these records: the key "old" in two groups and "one" are unknown,
// "new" is in flight, and "done" is finished.
func storeFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.db")
	store, err := filestore.Open(path, filestore.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range []struct {
		key, group string
		timeout    time.Duration
	}{{"old", "groups/A", -time.Minute}, {"old", "groups/B", -time.Minute}, {"one", "groups/A", -time.Minute}, {"new", "groups/A", time.Hour}, {"done", "groups/A", time.Hour}} {
		r := idempotency.Record{Key: record.key, Group: record.group, Method: "/meshtrade.wallet.transfer.v1.TransferService/CreateTransfer"}
		r.ID = idempotency.IDOf(r.Caller, r.Group, r.Method, r.Key)
		if _, err := store.Claim(t.Context(), r, record.timeout); err != nil {
			t.Fatal(err)
		}
		if record.key == "done" {
			if err := store.Finish(t.Context(), r.ID, r.Token, idempotency.Done, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStoreList(t *testing.T) {
	path := storeFile(t)
	for _, test := range []struct {
		name  string
		flags []string
		want  []string // the state and the key of each line
	}{
		{"what is not finished", nil, []string{"unknown old", "unknown old", "unknown one", "in flight new"}},
		{"all", []string{"--all"}, []string{"unknown old", "unknown old", "unknown one", "in flight new", "done done"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out, stderr := command(t, append([]string{"store", "list", "--store", "file:" + path}, test.flags...)...)
			lines := strings.Split(strings.TrimSpace(out), "\n")[1:]
			if code != 0 || len(lines) != len(test.want) {
				t.Fatalf("exit status %d, %s\n%s", code, stderr, out)
			}
			for i, line := range lines {
				state, key, _ := strings.Cut(test.want[i], " ")
				if state == "in" {
					state, key = "in flight", "new"
				}
				if !strings.HasPrefix(line, state+" ") || !strings.Contains(line, " "+key+" ") || !strings.Contains(line, "TransferService.CreateTransfer") {
					t.Errorf("%q, want %s", line, test.want[i])
				}
			}
		})
	}
}

func TestStoreResolve(t *testing.T) {
	path := storeFile(t)
	second := idempotency.IDOf(idempotency.Caller{}, "groups/B", "/meshtrade.wallet.transfer.v1.TransferService/CreateTransfer", "old").String()
	for _, test := range []struct {
		name, key, flag string
		code            int
		want            string // in the output or the message
	}{
		{"no such key", "none", "--carried-out", 1, "there is no write"},
		{"two writes with the key", "old", "--carried-out", 1, second},
		{"by its record", second, "--carried-out", 0, "groups/B with key old: carried out"},
		{"the other one", "old", "--not-carried-out", 0, "groups/A with key old: not carried out"},
		{"in flight", "new", "--carried-out", 1, "wait until"},
		{"finished", "done", "--not-carried-out", 1, "is finished"},
		{"settled", "old", "--not-carried-out", 1, "is finished"},
		{"no outcome", "one", "", 2, "--carried-out"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := []string{"store", "resolve", "--store", "file:" + path, test.key}
			if test.flag != "" {
				args = append(args, test.flag)
			}
			code, out, stderr := command(t, args...)
			if code != test.code || !strings.Contains(out+stderr, test.want) {
				t.Errorf("exit status %d, %s%s: want %d and %q", code, out, stderr, test.code, test.want)
			}
		})
	}
}

func TestStoreCommandsThatCannotWork(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.db")
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no store", []string{"list"}, 2, "--store"},
		{"another kind", []string{"list", "--store", "redis://x"}, 2, "redis"},
		{"memory", []string{"list", "--store", "memory"}, 2, "in memory"},
		{"a file that does not exist", []string{"list", "--store", "file:" + missing}, 1, missing},
		{"a file has no tables", []string{"migrate", "--store", "file:" + missing}, 1, "no tables"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, _, stderr := command(t, append([]string{"store"}, test.args...)...)
			if code != test.code || !strings.Contains(stderr, test.want) {
				t.Errorf("exit status %d, %s: want %d and %q", code, stderr, test.code, test.want)
			}
		})
	}
}
