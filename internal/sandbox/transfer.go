package sandbox

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// transfers is the TransferService.
type transfers struct {
	transferv1.UnimplementedTransferServiceServer
	*mesh
}

// transferInProgress is the state of a transfer that has yet to end.
const transferInProgress = transferv1.TransferState_TRANSFER_STATE_IN_PROGRESS

func (s *transfers) CalculateTransferFee(_ context.Context, request *transferv1.CalculateTransferFeeRequest) (*transferv1.CalculateTransferFeeResponse, error) {
	t, amount, err := positive("amount", request.GetAmount())
	if err != nil {
		return nil, err
	}
	fee, vat := ledger.FeeOf(t, amount)
	return &transferv1.CalculateTransferFeeResponse{
		FeeAmount: t.Amount(fee), VatAmount: t.Amount(vat), VatRate: &typev1.Decimal{Value: ledger.VATRate().String()},
	}, nil
}

// CreateTransfer reserves the amount, the fee and the VAT, and starts the ledger transaction that
// moves them.
func (s *transfers) CreateTransfer(ctx context.Context, request *transferv1.CreateTransferRequest) (*transferv1.Transfer, error) {
	return store.Update(s.db, func(tx *store.Tx) (*transferv1.Transfer, error) {
		given, group := request.GetTransfer(), executingGroup(ctx)
		if err := mayCreate(group, given.GetOwner()); err != nil {
			return nil, err
		}
		t, amount, err := positive("transfer.amount", given.GetAmount())
		if err != nil {
			return nil, err
		}
		from, to, err := s.ends(tx, group, given)
		if err != nil {
			return nil, err
		}
		if err := s.ledger.CanReceive(tx, to.GetName(), t); err != nil {
			return nil, err
		}
		name, err := s.newName(tx, "wallet/transfers")
		if err != nil {
			return nil, err
		}
		fee, _ := ledger.FeeOf(t, amount)
		transfer := &transferv1.Transfer{
			Name: name, Owner: group, Owners: s.path(tx, group),
			Number:          strconv.Itoa(s.transfers.Count(tx) + 1),
			From:            given.GetFrom(),
			To:              given.GetTo(),
			Amount:          t.Amount(amount),
			Fee:             transferFee(t, fee),
			State:           transferInProgress,
			Description:     given.GetDescription(),
			IncludeInLedger: given.GetIncludeInLedger(),
		}
		reserved, total := transferReservation(transfer)
		if err := s.ledger.Reserve(tx, from.GetName(), reserved, total); err != nil {
			return nil, err
		}
		if transfer.Transaction, err = s.submit(tx, group, effect{Kind: effectTransfer, Account: from.GetName(), Transfer: name}); err != nil {
			return nil, err
		}
		return transfer, s.transfers.Create(tx, transfer)
	})
}

func transferFee(t ledger.Token, fee decimal.Decimal) *transferv1.TransferFee {
	return &transferv1.TransferFee{Amount: t.Amount(fee), VatRate: &typev1.Decimal{Value: ledger.VATRate().String()}}
}

// ends returns the accounts that a transfer is to go from and to.
func (s *transfers) ends(tx *store.Tx, group string, given *transferv1.Transfer) (from, to *accountv1.Account, err error) {
	from, ok := s.accountAt(tx, given.GetFrom())
	// The error is the same for accounts that are not visible and those that do not exist, so that
	// addresses cannot be probed.
	if !ok || !slices.Contains(from.GetOwners(), group) {
		return nil, nil, status.Errorf(codes.NotFound,
			"transfer.from: there is no account with the ledger address %s that is visible to %s. Use the ledger_id of an account.", given.GetFrom(), group)
	}
	if from.GetOwner() != group {
		return nil, nil, notOwned(group, from)
	}
	to, ok = s.accountAt(tx, given.GetTo())
	switch {
	case !ok:
		return nil, nil, precondition("transfer.to: there is no account with the ledger address %s. The sandbox only supports addresses of its own accounts.", given.GetTo())
	case to.GetName() == from.GetName():
		return nil, nil, invalid("transfer.to", "must not be the same address as transfer.from")
	case to.GetLedger() != from.GetLedger():
		return nil, nil, precondition("%s is on %s, but %s is on %s. A transfer must stay on one ledger.", given.GetFrom(), from.GetLedger(), given.GetTo(), to.GetLedger())
	}
	return from, to, nil
}

// transferReservation is what a transfer holds back until it ends: the amount, the fee and the VAT.
func transferReservation(transfer *transferv1.Transfer) (ledger.Token, decimal.Decimal) {
	t, amount := ledger.TokenOf(transfer.GetAmount().GetToken()), ledger.ValueOf(transfer.GetAmount())
	if transfer.GetState() != transferInProgress {
		return t, decimal.Zero
	}
	fee, vat := ledger.FeeOf(t, amount)
	return t, amount.Add(fee).Add(vat)
}

// carryOut moves what a transfer reserved.
func (m *mesh) carryOut(tx *store.Tx, name string) error {
	transfer, from, err := m.transferFrom(tx, name)
	if err != nil {
		return err
	}
	to, ok := m.accountAt(tx, transfer.GetTo())
	if !ok {
		return fmt.Errorf("sandbox: %s goes to no account", name)
	}
	t, amount := ledger.TokenOf(transfer.GetAmount().GetToken()), ledger.ValueOf(transfer.GetAmount())
	_, reserved := transferReservation(transfer)
	cost := reserved.Sub(amount)
	if err := m.ledger.Release(tx, from.GetName(), t, reserved); err != nil {
		return err
	}
	if err := m.ledger.Move(tx, from.GetName(), to.GetName(), t, amount); err != nil {
		return err
	}
	at := m.now(tx)
	if err := m.ledger.Record(tx, ledger.Entry{Account: from.GetName(), At: at, Kind: ledger.Movement, Reference: name, Description: "Transfer to " + to.GetLedgerId(), Token: t, Amount: amount.Neg()}); err != nil {
		return err
	}
	if err := m.ledger.Record(tx, ledger.Entry{Account: to.GetName(), At: at, Kind: ledger.Movement, Reference: name, Description: "Transfer from " + from.GetLedgerId(), Token: t, Amount: amount}); err != nil {
		return err
	}
	if err := m.ledger.Charge(tx, from.GetName(), t, cost); err != nil {
		return err
	}
	return m.ledger.Record(tx, ledger.Entry{Account: from.GetName(), At: at, Kind: ledger.Fee, Reference: name, Description: "Transfer fee, VAT included", Token: t, Amount: cost})
}

// endTransfer ends a transfer as its transaction did. One that was refused gives back what it
// reserved.
func (m *mesh) endTransfer(tx *store.Tx, name string, refused error) error {
	transfer, from, err := m.transferFrom(tx, name)
	if err != nil {
		return err
	}
	ended := proto.CloneOf(transfer)
	ended.State = transferv1.TransferState_TRANSFER_STATE_SUCCESSFUL
	if refused != nil {
		ended.State = transferv1.TransferState_TRANSFER_STATE_FAILED
		t, reserved := transferReservation(transfer)
		if err := m.ledger.Release(tx, from.GetName(), t, reserved); err != nil {
			return err
		}
	}
	return m.transfers.Update(tx, ended)
}

// transferFrom returns a transfer and the account that pays.
func (m *mesh) transferFrom(tx *store.Tx, name string) (*transferv1.Transfer, *accountv1.Account, error) {
	transfer, ok := m.transfers.Get(tx, name)
	if !ok {
		return nil, nil, fmt.Errorf("sandbox: there is no %s", name)
	}
	from, ok := m.accountAt(tx, transfer.GetFrom())
	if !ok {
		return nil, nil, fmt.Errorf("sandbox: %s comes from no account", name)
	}
	return transfer, from, nil
}

func (s *transfers) GetTransfer(ctx context.Context, request *transferv1.GetTransferRequest) (*transferv1.Transfer, error) {
	return store.View(s.db, func(tx *store.Tx) (*transferv1.Transfer, error) {
		return getVisible(tx, s.transfers, executingGroup(ctx), request.GetName())
	})
}

func (s *transfers) ListTransfers(ctx context.Context, request *transferv1.ListTransfersRequest) (*transferv1.ListTransfersResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*transferv1.ListTransfersResponse, error) {
		// Numbers go up by one, so that the order of creation is that of numbers.
		found := visible(tx, s.transfers, executingGroup(ctx), every)
		sortBy(found, nil, request.GetSorting().GetOrder())
		return &transferv1.ListTransfersResponse{Transfers: found}, nil
	})
}

// SearchTransfersByAddress finds what an address paid or received.
func (s *transfers) SearchTransfersByAddress(ctx context.Context, request *transferv1.SearchTransfersByAddressRequest) (*transferv1.SearchTransfersByAddressResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*transferv1.SearchTransfersByAddressResponse, error) {
		return &transferv1.SearchTransfersByAddressResponse{
			Transfers: visible(tx, s.transfers, executingGroup(ctx), func(transfer *transferv1.Transfer) bool {
				return transfer.GetFrom() == request.GetAddress() || transfer.GetTo() == request.GetAddress()
			}),
		}, nil
	})
}

// MonitorTransfer sends the transfer and each change of it, and ends when it is
// SUCCESSFUL or FAILED.
func (s *transfers) MonitorTransfer(request *transferv1.MonitorTransferRequest, stream grpc.ServerStreamingServer[transferv1.Transfer]) error {
	ctx := stream.Context()
	return store.Watch(ctx, s.db, s.transfers,
		func(tx *store.Tx) (*transferv1.Transfer, error) {
			return getVisible(tx, s.transfers, executingGroup(ctx), request.GetName())
		},
		func(transfer *transferv1.Transfer) bool { return transfer.GetState() != transferInProgress },
		stream.Send)
}
