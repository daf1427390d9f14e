package sandbox

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
)

// transactions is the TransactionService.
type transactions struct {
	transactionv1.UnimplementedTransactionServiceServer
	*mesh
}

// transaction is a ledger transaction, which carries out a change of a wallet.
type transaction struct {
	Name, Owner string
	Owners      []string
	State       transactionv1.TransactionState
	Effect      effect
}

func (t *transaction) GetName() string     { return t.Name }
func (t *transaction) GetOwner() string    { return t.Owner }
func (t *transaction) GetOwners() []string { return t.Owners }

func (t *transaction) final() bool {
	_, more := nextTransactionState(t.State)
	return !more
}

// effect is what a transaction does when it succeeds.
type effect struct {
	Kind    effectKind
	Account string
	// Users are those to add or remove as signatories.
	Users []string
	// Tokens are those to register or deregister.
	Tokens []ledger.Token
	// Transfer is the name of the transfer to carry out.
	Transfer string
}

type effectKind string

const (
	effectOpen              effectKind = "open"
	effectAddSignatories    effectKind = "add signatories"
	effectRemoveSignatories effectKind = "remove signatories"
	effectRegister          effectKind = "register tokens"
	effectDeregister        effectKind = "deregister tokens"
	effectTransfer          effectKind = "transfer"
)

// Short names for the states of a transaction.
const (
	transactionDraft      = transactionv1.TransactionState_TRANSACTION_STATE_DRAFT
	transactionSigning    = transactionv1.TransactionState_TRANSACTION_STATE_SIGNING_IN_PROGRESS
	transactionPending    = transactionv1.TransactionState_TRANSACTION_STATE_PENDING
	transactionSubmitting = transactionv1.TransactionState_TRANSACTION_STATE_SUBMISSION_IN_PROGRESS
	transactionSuccessful = transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL
	transactionFailed     = transactionv1.TransactionState_TRANSACTION_STATE_FAILED
)

// nextTransactionState is the way of a transaction, a step each tick. The last step ends in FAILED
// where the ledger refuses the effect. INDETERMINATE, which says that the outcome is not known, does
// not happen: the sandbox is its own ledger.
func nextTransactionState(state transactionv1.TransactionState) (next transactionv1.TransactionState, more bool) {
	switch state {
	case transactionDraft:
		return transactionSigning, true
	case transactionSigning:
		return transactionPending, true
	case transactionPending:
		return transactionSubmitting, true
	case transactionSubmitting:
		return transactionSuccessful, true
	default:
		return state, false
	}
}

// submit starts a transaction, in DRAFT, and returns its name.
func (m *mesh) submit(tx *store.Tx, owner string, e effect) (string, error) {
	name, err := m.newName(tx, "transactions")
	if err != nil {
		return "", err
	}
	return name, m.transactions.Create(tx, &transaction{
		Name: name, Owner: owner, Owners: m.path(tx, owner), State: transactionDraft, Effect: e,
	})
}

// underWay reports whether a transaction of this kind has yet to end for the account.
func (m *mesh) underWay(tx *store.Tx, account string, kind effectKind) bool {
	for t := range m.transactions.Pending(tx) {
		if t.Effect.Kind == kind && t.Effect.Account == account {
			return true
		}
	}
	return false
}

// advanceTransaction takes a transaction a step on.
func (m *mesh) advanceTransaction(tx *store.Tx, t *transaction) error {
	changed := *t
	changed.State, _ = nextTransactionState(t.State)
	if changed.State == transactionSuccessful {
		refused := tx.Try(func() error { return m.apply(tx, t.Effect) })
		if refused != nil {
			changed.State = transactionFailed
		}
		if t.Effect.Kind == effectTransfer {
			if err := m.endTransfer(tx, t.Effect.Transfer, refused); err != nil {
				return err
			}
		}
	}
	return m.transactions.Update(tx, &changed)
}

// apply does what a transaction is for. An error is the ledger's refusal: what held when the
// transaction was made no longer does.
func (m *mesh) apply(tx *store.Tx, e effect) error {
	if e.Kind == effectTransfer {
		return m.carryOut(tx, e.Transfer)
	}
	return m.ledger.UpdateWallet(tx, e.Account, func(w *ledger.Wallet) error {
		switch e.Kind {
		case effectOpen:
			w.Open, w.Signatories = true, e.Users
		case effectAddSignatories:
			for _, user := range e.Users {
				if !slices.Contains(w.Signatories, user) {
					w.Signatories = append(w.Signatories, user)
				}
			}
			if len(w.Signatories) > maxSignatories {
				return precondition("%s has %d signatories.", e.Account, len(w.Signatories))
			}
		case effectRemoveSignatories:
			w.Signatories = slices.DeleteFunc(w.Signatories, func(user string) bool { return slices.Contains(e.Users, user) })
		case effectRegister:
			w.Register(e.Tokens...)
		case effectDeregister:
			return w.Deregister(e.Tokens...)
		default:
			return fmt.Errorf("sandbox: a transaction cannot %s", e.Kind)
		}
		return nil
	})
}

func (s *transactions) GetTransactionState(ctx context.Context, request *transactionv1.GetTransactionStateRequest) (*transactionv1.GetTransactionStateResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*transactionv1.GetTransactionStateResponse, error) {
		t, err := getVisible(tx, s.transactions, executingGroup(ctx), request.GetName())
		if err != nil {
			return nil, err
		}
		return &transactionv1.GetTransactionStateResponse{State: t.State}, nil
	})
}

// MonitorTransactionState sends the state and each change of it, and ends at SUCCESSFUL or FAILED.
func (s *transactions) MonitorTransactionState(request *transactionv1.MonitorTransactionStateRequest, stream grpc.ServerStreamingServer[transactionv1.MonitorTransactionStateResponse]) error {
	ctx := stream.Context()
	return store.Watch(ctx, s.db, s.transactions,
		func(tx *store.Tx) (*transaction, error) {
			return getVisible(tx, s.transactions, executingGroup(ctx), request.GetName())
		},
		(*transaction).final,
		func(t *transaction) error {
			return stream.Send(&transactionv1.MonitorTransactionStateResponse{State: t.State})
		})
}
