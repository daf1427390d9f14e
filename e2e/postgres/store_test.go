package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/meshtrade/mesh-gateway/e2e/postgres"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/pgstore"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/storetest"
)

// migrated returns a server with the tables.
func migrated(t testing.TB, settings ...string) *postgres.Server {
	t.Helper()
	server := postgres.Start(t, settings...)
	if _, err := pgstore.Migrate(t.Context(), server.URL()); err != nil {
		t.Fatal(err)
	}
	return server
}

func open(t testing.TB, url string, limits idempotency.Limits) *pgstore.Store {
	t.Helper()
	store, err := pgstore.Open(t.Context(), url, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func TestStore(t *testing.T) {
	server := migrated(t)
	storetest.Test(t, storetest.Harness{
		Run: func(t *testing.T, test func(*testing.T)) { test(t) },
		Open: func(t *testing.T, limits idempotency.Limits) idempotency.Store {
			server.Exec(t, `TRUNCATE mesh_gateway_records, mesh_gateway_tickets`)
			return open(t, server.URL(), limits)
		},
		Reopen: func(t *testing.T, store idempotency.Store) idempotency.Store {
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			server.Kill(t)
			server.Run(t)
			return open(t, server.URL(), storetest.Limits())
		},
		// The clock is that of the database, so what it has recorded is moved into the past.
		Pass: func(t *testing.T, _ idempotency.Store, by time.Duration) {
			server.Exec(t, `UPDATE mesh_gateway_records SET
				created = created - $1::interval, deadline = deadline - $1::interval, finished = finished - $1::interval`, by)
			server.Exec(t, `UPDATE mesh_gateway_tickets SET expires = expires - $1::interval`, by)
		},
	})
}

func TestMigrate(t *testing.T) {
	server := postgres.Start(t)
	if store, err := pgstore.Open(t.Context(), server.URL(), storetest.Limits()); err == nil {
		_ = store.Close()
		t.Fatal("a database without tables was opened")
	} else if !strings.Contains(err.Error(), "store migrate") {
		t.Errorf("%q does not say what to do", err)
	}
	// Several may migrate at the same time, and one does it.
	type result struct {
		applied []string
		err     error
	}
	results := make(chan result)
	for range 3 {
		go func() {
			applied, err := pgstore.Migrate(context.Background(), server.URL())
			results <- result{applied, err}
		}()
	}
	total := 0
	for range 3 {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		total += len(r.applied)
	}
	if total != 1 {
		t.Errorf("%d migrations were applied, want 1", total)
	}
	open(t, server.URL(), storetest.Limits())

	server.Exec(t, `DELETE FROM mesh_gateway_schema`)
	if store, err := pgstore.Open(t.Context(), server.URL(), storetest.Limits()); err == nil {
		_ = store.Close()
		t.Error("a database of an older version was opened")
	}
	server.Exec(t, `INSERT INTO mesh_gateway_schema VALUES (99, now())`)
	open(t, server.URL(), storetest.Limits())
}

func TestWarnings(t *testing.T) {
	for _, test := range []struct{ setting, want string }{
		{"synchronous_commit=on", ""},
		{"synchronous_commit=remote_apply", ""},
		{"synchronous_commit=off", "synchronous_commit of PostgreSQL is off"},
		{"synchronous_commit=local", "synchronous_commit of PostgreSQL is local"},
		{"fsync=off", "fsync of PostgreSQL is off"},
	} {
		t.Run(test.setting, func(t *testing.T) {
			warnings := strings.Join(open(t, migrated(t, test.setting).URL(), storetest.Limits()).Warnings(), "\n")
			if test.want == "" && warnings != "" || !strings.Contains(warnings, test.want) {
				t.Errorf("%q, want %q", warnings, test.want)
			}
		})
	}
}

func TestLostConnection(t *testing.T) {
	server := migrated(t)
	store := open(t, server.URL(), storetest.Limits())
	ctx := context.Background()
	record := newRecord()
	if _, err := store.Claim(ctx, record, time.Minute); err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	other := record
	other.ID[0]++
	_, claimErr := store.Claim(ctx, other, time.Minute)
	for name, err := range map[string]error{
		"claim":  claimErr,
		"finish": store.Finish(ctx, record.ID, record.Token, idempotency.Done, nil),
		"ping":   store.Ping(ctx),
	} {
		if !errors.Is(err, idempotency.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	server.Run(t)
	if err := store.Finish(ctx, record.ID, record.Token, idempotency.Done, nil); err != nil {
		t.Errorf("after the server came back: %v", err)
	}
}

// TestStatementTimeout makes a claim wait for a transaction that claims the same key.
func TestStatementTimeout(t *testing.T) {
	server := migrated(t)
	store := open(t, server.URL()+"&statement_timeout=200", storetest.Limits())
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	record := newRecord()
	if _, err := conn.Exec(ctx, `BEGIN`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `INSERT INTO mesh_gateway_records VALUES ($1, 1, '', '', '', '', '', '', 'sent', now(), now())`, record.ID[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Claim(ctx, record, time.Minute); !errors.Is(err, idempotency.ErrUnavailable) || !strings.Contains(err.Error(), "statement timeout") {
		t.Errorf("error %v", err)
	}
}

func newRecord() idempotency.Record {
	return idempotency.Record{Version: idempotency.RecordVersion, Fingerprint: idempotency.Fingerprint("fingerprint")}
}

func TestNewerRecordsAreNotPurged(t *testing.T) {
	server := migrated(t)
	store := open(t, server.URL(), storetest.Limits())
	record := newRecord()
	record.Version++
	if _, err := store.Claim(t.Context(), record, time.Minute); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, `UPDATE mesh_gateway_records SET state = 'done', finished = now() - interval '1 year', sealed = 'x'`)
	if _, err := store.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	claim, err := store.Claim(t.Context(), idempotency.Record{Token: idempotency.Token{1}, Fingerprint: record.Fingerprint}, time.Minute)
	if err != nil || claim.Existing == nil || claim.Existing.Sealed == nil {
		t.Errorf("%+v, %v", claim, err)
	}
}

func TestErrorsDoNotHaveThePassword(t *testing.T) {
	const password = "s3cret"
	for _, url := range []string{
		"postgres://mesh:" + password + "@127.0.0.1:1/mesh?connect_timeout=1",
		"postgres://mesh:" + password + "@127.0.0.1:port/mesh",
		"postgres://mesh:" + password + "/x@127.0.0.1:1/mesh",
		"postgres://mesh:" + password + "%@127.0.0.1:1/mesh",
		"postgres://mesh:" + password + "@127.0.0.1:1/mesh?sslmode=strict",
		"postgres://mesh:" + password + "@127.0.0.1:1/mesh?pool_max_conns=x",
	} {
		store, err := pgstore.Open(t.Context(), url, storetest.Limits())
		if err == nil {
			_ = store.Close()
			t.Fatalf("%s was opened", url)
		}
		if strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, open(b, migrated(b).URL(), pgstore.DefaultLimits()))
}
