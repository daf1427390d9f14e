package server_test

import (
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// BenchmarkPrepare measures what a reload of the configuration costs.
func BenchmarkPrepare(b *testing.B) {
	conn, err := grpc.NewClient("passthrough:nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	live := server.Live{MaxBodyBytes: 1 << 20, RequestTimeout: time.Minute}
	handler, err := server.Routes(server.Options{
		Conn: conn, Live: live, Keeper: idempotency.NewKeeper(memstore.New(memstore.DefaultLimits()), slog.New(slog.DiscardHandler)),
		Metrics: telemetry.New("test"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := handler.Prepare(live); err != nil {
			b.Fatal(err)
		}
	}
}
