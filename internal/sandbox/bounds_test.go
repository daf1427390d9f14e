package sandbox_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
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
