package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// TestCollectionsAreBounded fills a small sandbox.
func TestCollectionsAreBounded(t *testing.T) {
	const capacity = 40
	m := newMesh(t, sandbox.WithCapacity(capacity))
	group := m.seeded["Broker Admin"].Group
	for _, test := range []struct {
		kind   string
		create func(i int) error
	}{
		{"accounts", func(i int) error {
			_, err := accountv1.NewAccountServiceClient(m).CreateAccount(m.as(t, "Broker Admin"), &accountv1.CreateAccountRequest{
				Account: &accountv1.Account{Owner: group, Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: fmt.Sprint(i)}})
			return err
		}},
		{"clients", func(i int) error {
			_, err := clientv1.NewClientServiceClient(m).CreateClient(m.as(t, "Broker Admin"), &clientv1.CreateClientRequest{
				Client: &clientv1.Client{Owner: group, DisplayName: fmt.Sprint(i), VerificationStatus: 1}})
			return err
		}},
	} {
		t.Run(test.kind, func(t *testing.T) {
			var err error
			for i := 0; err == nil && i <= capacity; i++ {
				err = test.create(i)
			}
			wantCode(t, err, codes.ResourceExhausted)
		})
	}
}

// TestASlowReaderHoldsNobodyUp opens a stream that nobody reads and lets the
// order it watches go all its way.
func TestASlowReaderHoldsNobodyUp(t *testing.T) {
	m := newStanding(t)
	transaction := m.open(t)
	unread, err := transactionv1.NewTransactionServiceClient(m).MonitorTransactionState(m.as(t, "Broker Admin"), &transactionv1.MonitorTransactionStateRequest{Name: transaction})
	wantCode(t, err, codes.OK)
	if _, err := unread.Recv(); err != nil { // it is open
		t.Fatal(err)
	}
	if err := m.sandbox.Advance(sandbox.MaxAdvance); err != nil {
		t.Fatal(err)
	}
	state, err := transactionv1.NewTransactionServiceClient(m).GetTransactionState(m.as(t, "Broker Admin"), &transactionv1.GetTransactionStateRequest{Name: transaction})
	wantCode(t, err, codes.OK)
	if state.GetState() != transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL {
		t.Errorf("it is %s", state.GetState())
	}
}

// TestConcurrentCalls makes calls of all kinds at one time, while time passes;
// the race detector watches.
func TestConcurrentCalls(t *testing.T) {
	m := newMesh(t, sandbox.WithClock(sandbox.ClockFast))
	group, ctx := m.seeded["Broker Admin"].Group, m.as(t, "Broker Admin")
	account, err := accountv1.NewAccountServiceClient(m).GetAccount(ctx, &accountv1.GetAccountRequest{Name: tradingAccount})
	wantCode(t, err, codes.OK)
	treasury, err := accountv1.NewAccountServiceClient(m).GetAccount(ctx, &accountv1.GetAccountRequest{Name: treasuryAccount})
	wantCode(t, err, codes.OK)
	calls := []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := transferv1.NewTransferServiceClient(m).CreateTransfer(ctx, &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{
				Owner: group, From: account.GetLedgerId(), To: treasury.GetLedgerId(), Amount: amountOf(xlm(), "1")}})
			return err
		},
		func(ctx context.Context) error {
			order, err := limitorderv1.NewLimitOrderServiceClient(m).CreateLimitOrder(ctx, &limitorderv1.CreateLimitOrderRequest{LimitOrder: &limitorderv1.LimitOrder{
				Owner: group, Account: tradingAccount, Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "0.4")}})
			if err != nil {
				return err
			}
			stream, err := limitorderv1.NewLimitOrderServiceClient(m).MonitorLimitOrder(ctx, &limitorderv1.MonitorLimitOrderRequest{
				Identifier: &limitorderv1.MonitorLimitOrderRequest_Name{Name: order.GetName()}})
			for err == nil {
				_, err = stream.Recv()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		},
		func(ctx context.Context) error {
			_, err := accountv1.NewAccountServiceClient(m).ListAccounts(ctx, &accountv1.ListAccountsRequest{PopulateLedgerData: true})
			return err
		},
		func(ctx context.Context) error {
			_, err := clientv1.NewClientServiceClient(m).CreateClient(ctx, &clientv1.CreateClientRequest{
				Client: &clientv1.Client{Owner: group, DisplayName: "Concurrent", VerificationStatus: 1}})
			return err
		},
	}
	var running errgroup.Group
	for _, call := range calls {
		for range 4 {
			running.Go(func() error {
				for range 20 {
					if err := call(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	if err := running.Wait(); err != nil {
		t.Error(err)
	}
}
