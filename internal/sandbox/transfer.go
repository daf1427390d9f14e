package sandbox

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// transfers is the TransferService.
type transfers struct {
	transferv1.UnimplementedTransferServiceServer
	store *store
}

// feeRate is what a transfer costs, and vatRate the tax on that cost.
func feeRate() decimal.Decimal { return decimal.New(1, -3) }
func vatRate() decimal.Decimal { return decimal.New(15, -2) }

// feeOf is what a transfer costs, and the VAT on top.
func feeOf(t token, amount decimal.Decimal) (fee, vat decimal.Decimal) {
	fee = t.roundUp(amount.Mul(feeRate()))
	return fee, t.roundUp(fee.Mul(vatRate()))
}

func (s *transfers) CalculateTransferFee(_ context.Context, request *transferv1.CalculateTransferFeeRequest) (*transferv1.CalculateTransferFeeResponse, error) {
	t, amount, err := positive("amount", request.GetAmount())
	if err != nil {
		return nil, err
	}
	fee, vat := feeOf(t, amount)
	return &transferv1.CalculateTransferFeeResponse{
		FeeAmount: t.amount(fee), VatAmount: t.amount(vat), VatRate: &typev1.Decimal{Value: vatRate().String()},
	}, nil
}

// CreateTransfer reserves the amount, the fee and the VAT, and starts the
// ledger transaction that moves them.
func (s *transfers) CreateTransfer(ctx context.Context, request *transferv1.CreateTransferRequest) (*transferv1.Transfer, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	given, group := request.GetTransfer(), executingGroup(ctx)
	if err := mayCreate(group, given.GetOwner()); err != nil {
		return nil, err
	}
	t, amount, err := positive("transfer.amount", given.GetAmount())
	if err != nil {
		return nil, err
	}
	from, ok := s.store.accounts.find(given.GetFrom())
	// The error is the same for accounts that are not visible and those that do not exist, so that
	// addresses cannot be probed.
	if !ok || from.GetLedgerId() != given.GetFrom() || !slices.Contains(from.GetOwners(), group) {
		return nil, status.Errorf(codes.NotFound,
			"transfer.from: there is no account with the ledger address %s that is visible to %s. Use the ledger_id of an account.", given.GetFrom(), group)
	}
	if from, err = s.store.accounts.getForUpdate(group, from.GetName()); err != nil {
		return nil, err
	}
	to, ok := s.store.accounts.find(given.GetTo())
	switch {
	case !ok || to.GetLedgerId() != given.GetTo():
		return nil, precondition("transfer.to: there is no account with the ledger address %s. The sandbox only supports addresses of its own accounts.", given.GetTo())
	case to.GetName() == from.GetName():
		return nil, invalid("transfer.to", "must not be the same address as transfer.from")
	case to.GetLedger() != from.GetLedger():
		return nil, precondition("%s is on %s, but %s is on %s. A transfer must stay on one ledger.", given.GetFrom(), from.GetLedger(), given.GetTo(), to.GetLedger())
	}
	if err := s.store.canReceive(to.GetName(), t); err != nil {
		return nil, err
	}
	if err := s.store.transfers.room(); err != nil {
		return nil, err
	}

	name, err := s.store.name("wallet/transfers")
	if err != nil {
		return nil, err
	}
	fee, vat := feeOf(t, amount)
	if err := s.store.reserve(from.GetName(), t, amount.Add(fee).Add(vat)); err != nil {
		return nil, err
	}
	carrier, err := s.store.submit(group, effect{Kind: effectTransfer, Account: from.GetName(), Transfer: name})
	if err != nil {
		return nil, errors.Join(err, s.store.release(from.GetName(), t, amount.Add(fee).Add(vat)))
	}
	transfer := &transferv1.Transfer{
		Name: name, Owner: group, Owners: s.store.path(group),
		Number:      strconv.Itoa(len(s.store.transfers.order) + 1),
		From:        given.GetFrom(),
		To:          given.GetTo(),
		Amount:      t.amount(amount),
		Transaction: carrier,
		Fee: &transferv1.TransferFee{
			Amount: t.amount(fee), VatRate: &typev1.Decimal{Value: vatRate().String()},
		},
		State:           transferv1.TransferState_TRANSFER_STATE_IN_PROGRESS,
		Description:     given.GetDescription(),
		IncludeInLedger: given.GetIncludeInLedger(),
	}
	return transfer, s.store.transfers.put(transfer)
}

// carryOut moves what a transfer reserved. It does all of it or nothing.
func (s *store) carryOut(transfer *transferv1.Transfer) error {
	from, _ := s.accounts.find(transfer.GetFrom())
	to, _ := s.accounts.find(transfer.GetTo())
	t, amount := tokenOf(transfer.GetAmount().GetToken()), valueOf(transfer.GetAmount())
	fee, vat := feeOf(t, amount)
	refused := s.canReceive(to.GetName(), t)
	must(s.release(from.GetName(), t, amount.Add(fee).Add(vat)))
	if refused != nil {
		return refused
	}
	must(s.move(from.GetName(), to.GetName(), t, amount))
	s.record(entry{Account: from.GetName(), Kind: entryMovement, Reference: transfer.GetName(), Description: "Transfer to " + to.GetLedgerId(), Token: t, Amount: amount.Neg()})
	s.record(entry{Account: to.GetName(), Kind: entryMovement, Reference: transfer.GetName(), Description: "Transfer from " + from.GetLedgerId(), Token: t, Amount: amount})
	must(s.charge(from.GetName(), t, fee.Add(vat)))
	s.record(entry{Account: from.GetName(), Kind: entryFee, Reference: transfer.GetName(), Description: "Transfer fee, VAT included", Token: t, Amount: fee.Add(vat)})
	return nil
}

// settle ends a transfer as its transaction did.
func (s *store) settle(name string, refused error) {
	transfer := proto.CloneOf(s.transfers.byName[name])
	transfer.State = transferv1.TransferState_TRANSFER_STATE_SUCCESSFUL
	if refused != nil {
		transfer.State = transferv1.TransferState_TRANSFER_STATE_FAILED
	}
	must(s.transfers.put(transfer))
	s.watchers.notify(transfer)
}

func (s *transfers) GetTransfer(ctx context.Context, request *transferv1.GetTransferRequest) (*transferv1.Transfer, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	return s.store.transfers.getVisible(executingGroup(ctx), request.GetName())
}

func (s *transfers) ListTransfers(ctx context.Context, request *transferv1.ListTransfersRequest) (*transferv1.ListTransfersResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	// Numbers go up by one, so that the order of creation is that of numbers.
	found := s.store.transfers.visible(executingGroup(ctx), every)
	sortBy(found, nil, request.GetSorting().GetOrder())
	return &transferv1.ListTransfersResponse{Transfers: found}, nil
}

// SearchTransfersByAddress finds what an address paid or received.
func (s *transfers) SearchTransfersByAddress(ctx context.Context, request *transferv1.SearchTransfersByAddressRequest) (*transferv1.SearchTransfersByAddressResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	return &transferv1.SearchTransfersByAddressResponse{
		Transfers: s.store.transfers.visible(executingGroup(ctx), func(transfer *transferv1.Transfer) bool {
			return transfer.GetFrom() == request.GetAddress() || transfer.GetTo() == request.GetAddress()
		}),
	}, nil
}

// MonitorTransfer sends the transfer and each change of it, and ends when it is
// SUCCESSFUL or FAILED.
func (s *transfers) MonitorTransfer(request *transferv1.MonitorTransferRequest, stream grpc.ServerStreamingServer[transferv1.Transfer]) error {
	ctx := stream.Context()
	return watch(ctx, s.store,
		func() (*transferv1.Transfer, error) {
			return s.store.transfers.getVisible(executingGroup(ctx), request.GetName())
		},
		func(transfer *transferv1.Transfer) bool {
			return transfer.GetState() != transferv1.TransferState_TRANSFER_STATE_IN_PROGRESS
		},
		stream.Send)
}
