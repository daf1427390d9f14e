package memstore_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/storetest"
)

func TestStore(t *testing.T) {
	storetest.Test(t, storetest.Harness{
		Run:  synctest.Test,
		Open: func(_ *testing.T, limits idempotency.Limits) idempotency.Store { return memstore.New(limits) },
		Pass: func(_ *testing.T, _ idempotency.Store, by time.Duration) { time.Sleep(by) },
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(idempotency.Limits{PerCaller: 1, Total: 1})
		ctx := t.Context()
		record := idempotency.Record{Version: idempotency.RecordVersion}
		if _, err := store.Claim(ctx, record, time.Second); err != nil {
			t.Fatal(err)
		}
		if err := store.Finish(ctx, record.ID, record.Token, idempotency.Done, []byte("answer")); err != nil {
			t.Fatal(err)
		}
		store.Forget()

		record.Token[0]++
		claim, err := store.Claim(ctx, record, time.Second)
		if err != nil || claim.Existing != nil {
			t.Fatalf("the key was not forgotten, or counts towards the limits: %+v, %v", claim, err)
		}
		if err := store.Finish(ctx, record.ID, idempotency.Token{}, idempotency.Done, nil); !errors.Is(err, idempotency.ErrNotClaimed) {
			t.Errorf("the end of a forgotten call: %v", err)
		}
		time.Sleep(2 * idempotency.Retention)
		if _, err := store.Purge(ctx); err != nil {
			t.Fatal(err)
		}
		record.Token[0]++
		if claim, err := store.Claim(ctx, record, time.Second); err != nil || claim.Existing == nil {
			t.Errorf("the purge of a forgotten record deleted its successor: %+v, %v", claim, err)
		}
	})
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, memstore.New(idempotency.Limits{PerCaller: 100_000_000, Total: 100_000_000}))
}
