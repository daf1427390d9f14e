package storetest

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
)

// Benchmark measures what a store adds to a write: a claim and an outcome, and for a repeated
// request the replay. The call takes no time.
func Benchmark(b *testing.B, store idempotency.Store) {
	keeper := idempotency.NewKeeper(store, slog.New(slog.DiscardHandler))
	var number atomic.Int64
	write := func(key string) error {
		_, err := keeper.Do(context.Background(), request(key), func(context.Context) idempotency.Outcome {
			return idempotency.Replied(make([]byte, 300))
		})
		return err
	}
	next := func() string { return fmt.Sprint("key ", number.Add(1)) }
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if err := write(next()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64 writes at a time", func(b *testing.B) {
		b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := write(next()); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("replay", func(b *testing.B) {
		key := next()
		for b.Loop() {
			if err := write(key); err != nil {
				b.Fatal(err)
			}
		}
	})
}
