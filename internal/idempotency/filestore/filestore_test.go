package filestore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/filestore"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/storetest"
)

func TestStore(t *testing.T) {
	var path string // of the last store; the tests run one after the other
	open := func(t *testing.T, limits idempotency.Limits) *filestore.Store {
		t.Helper()
		store, err := filestore.Open(path, limits)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		return store
	}
	storetest.Test(t, storetest.Harness{
		Run: synctest.Test,
		Open: func(t *testing.T, limits idempotency.Limits) idempotency.Store {
			path = filepath.Join(t.TempDir(), "keys.db")
			return open(t, limits)
		},
		Reopen: func(t *testing.T, store idempotency.Store) idempotency.Store {
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, storetest.Limits())
		},
		Pass: func(_ *testing.T, _ idempotency.Store, by time.Duration) { time.Sleep(by) },
	})
}

func TestFileIsForOneGateway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	store, err := filestore.Open(path, filestore.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	started := time.Now()
	second, err := filestore.Open(path, filestore.DefaultLimits())
	if err == nil {
		_ = second.Close()
		t.Fatal("two gateways have the file open")
	}
	for _, want := range []string{path, "another gateway", "postgres://"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if waited := time.Since(started); waited > 10*time.Second {
		t.Errorf("it took %s", waited)
	}
}

func TestFileIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // has no modes
	}
	path := filepath.Join(t.TempDir(), "keys.db")
	store, err := filestore.Open(path, filestore.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other.db")
	db, err := bbolt.Open(other, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket([]byte("meta"))
		if err != nil {
			return err
		}
		return meta.Put([]byte("version"), []byte("mesh-gateway store 2"))
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, path, want string }{
		{"a directory that does not exist", filepath.Join(dir, "none", "keys.db"), "no such file"},
		{"a directory", dir, "cannot be opened"},
		{"not a database", text, "cannot be opened"},
		{"of another version", other, "another version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			store, err := filestore.Open(test.path, filestore.DefaultLimits())
			if err == nil {
				_ = store.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
				t.Errorf("%q does not say %q", err, test.want)
			}
		})
	}
}

// TestClosedFileIsUnavailable stands for every failure of the disk.
func TestClosedFileIsUnavailable(t *testing.T) {
	store, err := filestore.Open(filepath.Join(t.TempDir(), "keys.db"), filestore.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, claimErr := store.Claim(ctx, idempotency.Record{}, time.Second)
	for name, err := range map[string]error{
		"claim":   claimErr,
		"finish":  store.Finish(ctx, idempotency.ID{}, idempotency.Token{}, idempotency.Done, nil),
		"release": store.Release(ctx, idempotency.ID{}, idempotency.Token{}),
		"ping":    store.Ping(ctx),
	} {
		if !errors.Is(err, idempotency.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkStore(b *testing.B) {
	store, err := filestore.Open(filepath.Join(b.TempDir(), "keys.db"), filestore.DefaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	storetest.Benchmark(b, store)
}
