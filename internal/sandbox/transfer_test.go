package sandbox_test

import (
	"fmt"
	"testing"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc/status"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// address is where an account is on its ledger.
func (m standing) address(t *testing.T, name string) string {
	t.Helper()
	return m.account(t, name).GetLedgerId()
}

func (m standing) transfer(t *testing.T, from, to string, amount *typev1.Amount) (*transferv1.Transfer, error) {
	t.Helper()
	return transferv1.NewTransferServiceClient(m).CreateTransfer(m.as(t, "Broker Admin"), &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{
		Owner: m.seeded["Broker Admin"].Group, From: from, To: to, Amount: amount,
		// What the server sets.
		Number: "999", State: transferv1.TransferState_TRANSFER_STATE_SUCCESSFUL, Transaction: "mine",
	}})
}

func TestTransferFee(t *testing.T) {
	m := newStanding(t)
	for _, test := range []struct {
		name     string
		amount   *typev1.Amount
		fee, vat string
	}{
		{"a thousandth, and VAT of 15% on it", amountOf(xlm(), "100"), "0.1", "0.015"},
		{"rounded up to what the ledger can hold", amountOf(xlm(), "0.0000001"), "0.0000001", "0.0000001"},
		{"eighteen decimals on Ethereum", amountOf(eth(), "1.000000000000001"), "0.001000000000000001", "0.000150000000000001"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fee, err := transferv1.NewTransferServiceClient(m).CalculateTransferFee(m.as(t, "Broker Admin"), &transferv1.CalculateTransferFeeRequest{Amount: test.amount})
			wantCode(t, err, codes.OK)
			got := []string{fee.GetFeeAmount().GetValue().GetValue(), fee.GetVatAmount().GetValue().GetValue(), fee.GetVatRate().GetValue()}
			if diff := cmp.Diff([]string{test.fee, test.vat, "0.15"}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTransferSucceeds(t *testing.T) {
	m := newStanding(t)
	created, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, treasuryAccount), amountOf(xlm(), "500"))
	wantCode(t, err, codes.OK)
	if created.GetState() != transferv1.TransferState_TRANSFER_STATE_IN_PROGRESS || created.GetNumber() != "2" || created.GetFee().GetAmount().GetValue().GetValue() != "0.5" {
		t.Errorf("%v", created)
	}
	// 102000 are held and 1000 of them reserved by an order of the seed.
	if held, available := m.balance(t, tradingAccount, xlm()); held != "102000" || available != "100499.425" {
		t.Errorf("under way: %s held, %s available", held, available)
	}
	stream, err := transferv1.NewTransferServiceClient(m).MonitorTransfer(m.as(t, "Broker Admin"), &transferv1.MonitorTransferRequest{Name: created.GetName()})
	wantCode(t, err, codes.OK)
	first, err := stream.Recv()
	wantCode(t, err, codes.OK)
	m.tick(t, 4)
	rest := drain(t, stream)
	if first.GetState() != transferv1.TransferState_TRANSFER_STATE_IN_PROGRESS || len(rest) != 1 || rest[0].GetState() != transferv1.TransferState_TRANSFER_STATE_SUCCESSFUL {
		t.Errorf("the stream sends %v, then %v", first.GetState(), rest)
	}
	if held, available := m.balance(t, tradingAccount, xlm()); held != "101499.425" || available != "100499.425" {
		t.Errorf("the payer: %s held, %s available", held, available)
	}
	if held, _ := m.balance(t, treasuryAccount, xlm()); held != "1500" {
		t.Errorf("the receiver: %s held", held)
	}
	state, err := transactionv1.NewTransactionServiceClient(m).GetTransactionState(m.as(t, "Broker Admin"), &transactionv1.GetTransactionStateRequest{Name: created.GetTransaction()})
	wantCode(t, err, codes.OK)
	if state.GetState() != transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL {
		t.Errorf("its transaction is %s", state.GetState())
	}
}

func TestTransferFailsWhereTheReceiverDeregisters(t *testing.T) {
	const receiver = corporateAccount // it holds no mZAR
	stays, leaves := newStanding(t), newStanding(t)
	_, err := accountv1.NewAccountServiceClient(leaves).DeregisterTokensFromAccount(leaves.as(t, "Corporate Admin"), &accountv1.DeregisterTokensFromAccountRequest{Name: receiver, Tokens: []*typev1.Token{mzar()}})
	wantCode(t, err, codes.OK)
	var names []string
	for _, m := range []standing{stays, leaves} {
		transfer, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, receiver), amountOf(mzar(), "100"))
		wantCode(t, err, codes.OK)
		names = append(names, transfer.GetName())
		m.tick(t, 4)
	}
	for _, test := range []struct {
		name  string
		mesh  standing
		of    string
		state transferv1.TransferState
		held  string
	}{
		{"registered", stays, names[0], transferv1.TransferState_TRANSFER_STATE_SUCCESSFUL, "499899.885"},
		{"deregistered meanwhile", leaves, names[1], transferv1.TransferState_TRANSFER_STATE_FAILED, "500000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := transferv1.NewTransferServiceClient(test.mesh).GetTransfer(test.mesh.as(t, "Broker Admin"), &transferv1.GetTransferRequest{Name: test.of})
			wantCode(t, err, codes.OK)
			held, available := test.mesh.balance(t, tradingAccount, mzar())
			if got.GetState() != test.state || held != test.held || available != test.held {
				t.Errorf("%s; %s held, %s available", got.GetState(), held, available)
			}
		})
	}
}

func TestTransferRefusals(t *testing.T) {
	m := newStanding(t)
	trading, treasury, ethereum := m.address(t, tradingAccount), m.address(t, treasuryAccount), m.address(t, ethereumAccount)
	for _, test := range []struct {
		name     string
		from, to string
		amount   *typev1.Amount
		want     codes.Code
	}{
		{"more than is available", trading, treasury, amountOf(xlm(), "102000"), codes.FailedPrecondition},
		{"all that is available, without the fee", trading, treasury, amountOf(xlm(), "101000"), codes.FailedPrecondition},
		{"to another ledger", trading, ethereum, amountOf(xlm(), "1"), codes.FailedPrecondition},
		{"a token that the receiver has not registered", trading, treasury, amountOf(mzar(), "1"), codes.FailedPrecondition},
		{"a token that the payer has not registered", treasury, trading, amountOf(mzar(), "1"), codes.FailedPrecondition},
		{"to an account that is not open", trading, m.address(t, closedAccount), amountOf(xlm(), "1"), codes.FailedPrecondition},
		{"to an address of nobody", trading, "nowhere", amountOf(xlm(), "1"), codes.FailedPrecondition},
		{"from an address of nobody", "nowhere", trading, amountOf(xlm(), "1"), codes.NotFound},
		{"an account number is no address", "1000001", treasury, amountOf(xlm(), "1"), codes.NotFound},
		{"from another owner's account", m.address(t, corporateAccount), trading, amountOf(xlm(), "1"), codes.PermissionDenied},
		{"to itself", trading, trading, amountOf(xlm(), "1"), codes.InvalidArgument},
		{"nothing", trading, treasury, amountOf(xlm(), "0"), codes.InvalidArgument},
		{"less than nothing", trading, treasury, amountOf(xlm(), "-1"), codes.InvalidArgument},
		{"with more decimals than the ledger has", trading, treasury, amountOf(xlm(), "1.00000001"), codes.InvalidArgument},
		{"with an exponent", trading, treasury, amountOf(xlm(), "1e3"), codes.InvalidArgument},
		{"no number", trading, treasury, amountOf(xlm(), "NaN"), codes.InvalidArgument},
		{"no value", trading, treasury, amountOf(xlm(), ""), codes.InvalidArgument},
		{"a token that is not known", trading, treasury, amountOf(&typev1.Token{Code: "XLM"}, "1"), codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := m.transfer(t, test.from, test.to, test.amount)
			wantCode(t, err, test.want)
		})
	}
	if held, available := m.balance(t, tradingAccount, xlm()); held != "102000" || available != "101000" {
		t.Errorf("what was refused left %s held, %s available", held, available)
	}
}

func TestTransfersFound(t *testing.T) {
	m := newStanding(t)
	trading, treasury, corporate := m.address(t, tradingAccount), m.address(t, treasuryAccount), m.address(t, corporateAccount)
	for _, way := range [][2]string{{trading, treasury}, {treasury, trading}, {trading, corporate}} {
		_, err := m.transfer(t, way[0], way[1], amountOf(xlm(), "1"))
		wantCode(t, err, codes.OK)
	}
	service := transferv1.NewTransferServiceClient(m)
	numbers := func(transfers []*transferv1.Transfer) (numbers []string) {
		for _, transfer := range transfers {
			numbers = append(numbers, transfer.GetNumber())
		}
		return numbers
	}
	for _, test := range []struct {
		name, caller, address string
		want                  []string
	}{
		{"paid or received", "Broker Admin", treasury, []string{"1", "2", "3"}},
		{"received", "Broker Admin", corporate, []string{"4"}},
		{"those of a group above are not seen", "Corporate Admin", corporate, nil},
		{"of nobody", "Broker Admin", "nowhere", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := service.SearchTransfersByAddress(m.as(t, test.caller), &transferv1.SearchTransfersByAddressRequest{Address: test.address})
			wantCode(t, err, codes.OK)
			if diff := cmp.Diff(test.want, numbers(found.GetTransfers())); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("last number first", func(t *testing.T) {
		list, err := service.ListTransfers(m.as(t, "Broker Admin"), &transferv1.ListTransfersRequest{Sorting: &transferv1.ListTransfersRequest_Sorting{Field: "number", Order: typev1.SortingOrder_SORTING_ORDER_DESC}})
		wantCode(t, err, codes.OK)
		if diff := cmp.Diff([]string{"4", "3", "2", "1"}, numbers(list.GetTransfers())); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFeeRefusals(t *testing.T) {
	m := newStanding(t)
	for _, value := range []string{"0", "-1", "1e3", "NaN", "", "1.00000001", "+1", " 1", ".5", "1."} {
		t.Run(fmt.Sprintf("%q", value), func(t *testing.T) {
			_, err := transferv1.NewTransferServiceClient(m).CalculateTransferFee(m.as(t, "Broker Admin"), &transferv1.CalculateTransferFeeRequest{Amount: amountOf(xlm(), value)})
			wantCode(t, err, codes.InvalidArgument)
		})
	}
}

func TestTransferOfAllThatIsAvailableWithTheFee(t *testing.T) {
	m := newStanding(t) // 1000 XLM are in the treasury
	amount := "998.8513208"
	fee, err := transferv1.NewTransferServiceClient(m).CalculateTransferFee(m.as(t, "Broker Admin"), &transferv1.CalculateTransferFeeRequest{Amount: amountOf(xlm(), amount)})
	wantCode(t, err, codes.OK)
	cost := decimal.RequireFromString(amount).Add(decimal.RequireFromString(fee.GetFeeAmount().GetValue().GetValue())).Add(decimal.RequireFromString(fee.GetVatAmount().GetValue().GetValue()))
	_, err = m.transfer(t, m.address(t, treasuryAccount), m.address(t, tradingAccount), amountOf(xlm(), amount))
	wantCode(t, err, codes.OK)
	_, available := m.balance(t, treasuryAccount, xlm())
	if want := decimal.NewFromInt(1000).Sub(cost); !decimal.RequireFromString(available).Equal(want) {
		t.Errorf("%s available, want %s", available, want)
	}
}

func TestFailedTransferIsSeenOnTheStream(t *testing.T) {
	m := newStanding(t)
	_, err := accountv1.NewAccountServiceClient(m).DeregisterTokensFromAccount(m.as(t, "Corporate Admin"), &accountv1.DeregisterTokensFromAccountRequest{Name: corporateAccount, Tokens: []*typev1.Token{mzar()}})
	wantCode(t, err, codes.OK)
	created, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, corporateAccount), amountOf(mzar(), "100"))
	wantCode(t, err, codes.OK)
	stream, err := transferv1.NewTransferServiceClient(m).MonitorTransfer(m.as(t, "Broker Admin"), &transferv1.MonitorTransferRequest{Name: created.GetName()})
	wantCode(t, err, codes.OK)
	_, err = stream.Recv()
	wantCode(t, err, codes.OK)
	m.tick(t, 4)
	if rest := drain(t, stream); len(rest) != 1 || rest[0].GetState() != transferv1.TransferState_TRANSFER_STATE_FAILED {
		t.Errorf("%v", rest)
	}
	state, err := transactionv1.NewTransactionServiceClient(m).GetTransactionState(m.as(t, "Broker Admin"), &transactionv1.GetTransactionStateRequest{Name: created.GetTransaction()})
	wantCode(t, err, codes.OK)
	if state.GetState() != transactionv1.TransactionState_TRANSACTION_STATE_FAILED {
		t.Errorf("its transaction is %s", state.GetState())
	}
}

func TestTransfersOutsideTheTreeAreNotFound(t *testing.T) {
	m := newStanding(t)
	created, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, treasuryAccount), amountOf(xlm(), "1"))
	wantCode(t, err, codes.OK)
	service := transferv1.NewTransferServiceClient(m)
	for _, test := range []struct {
		name, caller, transfer string
		want                   codes.Code
	}{
		{"of a group above", "Corporate Admin", created.GetName(), codes.NotFound},
		{"of nobody", "Broker Admin", "wallet/transfers/ZZZZZZZZZZZZZZZZZZZZZZZZZZ", codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := service.GetTransfer(m.as(t, test.caller), &transferv1.GetTransferRequest{Name: test.transfer})
			wantCode(t, err, test.want)
			stream, err := service.MonitorTransfer(m.as(t, test.caller), &transferv1.MonitorTransferRequest{Name: test.transfer})
			wantCode(t, err, codes.OK)
			_, err = stream.Recv()
			wantCode(t, err, test.want)
		})
	}
}

// An address that belongs to an account one cannot see is to be refused as one
// that belongs to none, or who exists can be probed.
func TestAPayerThatCannotBeSeenIsRefusedLikeOneThatDoesNotExist(t *testing.T) {
	m := newStanding(t)
	hidden, own := m.address(t, tradingAccount), m.address(t, corporateAccount)
	refuse := func(from string) codes.Code {
		_, err := transferv1.NewTransferServiceClient(m).CreateTransfer(m.as(t, "Corporate Admin"), &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{
			Owner: m.seeded["Corporate Admin"].Group, From: from, To: own, Amount: amountOf(xlm(), "1")}})
		return status.Code(err)
	}
	if seen, none := refuse(hidden), refuse("nowhere"); seen != none {
		t.Errorf("hidden: %s, of nobody: %s", seen, none)
	}
}
