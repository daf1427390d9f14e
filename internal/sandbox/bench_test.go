package sandbox_test

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// benchmarked is a sandbox and a call of its broker's.
func benchmarked(b *testing.B) (*sandbox.Sandbox, context.Context) {
	b.Helper()
	s, err := sandbox.New(sandbox.WithClock(sandbox.ClockManual))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	broker := sandbox.Seeded()[0]
	return s, metadata.AppendToOutgoingContext(b.Context(), "x-api-key", broker.APIKey, "x-group", broker.Group)
}

// BenchmarkGetLimitOrder reads one order, over the connection in the process.
func BenchmarkGetLimitOrder(b *testing.B) {
	s, ctx := benchmarked(b)
	client := limitorderv1.NewLimitOrderServiceClient(s.Conn())
	request := &limitorderv1.GetLimitOrderRequest{Name: "limit_orders/00000000000000000000000001", LiveLedgerData: true}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.GetLimitOrder(ctx, request); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// BenchmarkListAccounts lists a thousand accounts, with and without what the
// ledger knows of them.
func BenchmarkListAccounts(b *testing.B) {
	s, ctx := benchmarked(b)
	client := accountv1.NewAccountServiceClient(s.Conn())
	const accounts = 1000
	have, err := client.ListAccounts(ctx, &accountv1.ListAccountsRequest{})
	if err != nil {
		b.Fatal(err)
	}
	for i := len(have.GetAccounts()); i < accounts; i++ {
		if _, err := client.CreateAccount(ctx, &accountv1.CreateAccountRequest{Account: &accountv1.Account{
			Owner: sandbox.Seeded()[0].Group, Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: fmt.Sprintf("Account %d", i)}}); err != nil {
			b.Fatal(err)
		}
	}
	for _, live := range []bool{false, true} {
		b.Run(fmt.Sprintf("live=%t", live), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				answer, err := client.ListAccounts(ctx, &accountv1.ListAccountsRequest{PopulateLedgerData: live})
				if err != nil || len(answer.GetAccounts()) != accounts {
					b.Fatal(len(answer.GetAccounts()), err)
				}
			}
		})
	}
}
