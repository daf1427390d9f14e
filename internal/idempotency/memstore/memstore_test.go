package memstore_test

import (
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

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, memstore.New(idempotency.Limits{PerCaller: 100_000_000, Total: 100_000_000}))
}
