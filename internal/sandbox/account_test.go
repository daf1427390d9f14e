package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// Seeded accounts of the broker's, and one of the corporate group's.
const (
	tradingAccount   = "accounts/00000000000000000000000001"
	treasuryAccount  = "accounts/00000000000000000000000002"
	ethereumAccount  = "accounts/00000000000000000000000003"
	closedAccount    = "accounts/00000000000000000000000005"
	corporateAccount = "accounts/00000000000000000000000006"
	unknownAccount   = "accounts/ZZZZZZZZZZZZZZZZZZZZZZZZZZ"
)

const (
	native     = "__LEDGER__"
	usdcIssuer = "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN"
	eurcIssuer = "GDHU6WRG4IEQXM5NZ4BMPKOXHW76MZM4Y2IEMFDVXBSDP6SJY4ITNPP2"
	mzarIssuer = "GBC5UN72P27BVJVEJCEBVD5RO2JTXACFENBROGFIRB2CCLUK2VJEIAYE"
)

func onStellar(code, issuer string) *typev1.Token {
	return &typev1.Token{Code: code, Issuer: issuer, Ledger: typev1.Ledger_LEDGER_STELLAR}
}
func xlm() *typev1.Token  { return onStellar("XLM", native) }
func usdc() *typev1.Token { return onStellar("USDC", usdcIssuer) }
func eurc() *typev1.Token { return onStellar("EURC", eurcIssuer) }
func mzar() *typev1.Token { return onStellar("mZAR", mzarIssuer) }
func eth() *typev1.Token {
	return &typev1.Token{Code: "ETH", Issuer: native, Ledger: typev1.Ledger_LEDGER_ETHEREUM}
}

func amountOf(token *typev1.Token, value string) *typev1.Amount {
	return &typev1.Amount{Token: token, Value: &typev1.Decimal{Value: value}}
}

// tick lets ticks pass.
func (m standing) tick(t *testing.T, ticks int) {
	t.Helper()
	if err := m.sandbox.Advance(time.Duration(ticks) * 250 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
}

// account is a seeded account with its ledger data, as the root sees it.
func (m standing) account(t *testing.T, name string) *accountv1.Account {
	t.Helper()
	group := "Broker Admin"
	account, err := accountv1.NewAccountServiceClient(m).GetAccount(m.as(t, group), &accountv1.GetAccountRequest{Name: name, PopulateLedgerData: true})
	wantCode(t, err, codes.OK)
	return account
}

// balance is what an account holds of a token, and what of it is available.
func (m standing) balance(t *testing.T, name string, token *typev1.Token) (held, available string) {
	t.Helper()
	for _, balance := range m.account(t, name).GetBalances() {
		if got := balance.GetAmount().GetToken(); got.GetCode() == token.GetCode() {
			return balance.GetAmount().GetValue().GetValue(), balance.GetAvailableAmount().GetValue().GetValue()
		}
	}
	return "unregistered", "unregistered"
}

// drain reads a stream to its end, which must be a regular one.
func drain[T any](t *testing.T, stream grpc.ServerStreamingClient[T]) (messages []*T) {
	t.Helper()
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return messages
		}
		wantCode(t, err, codes.OK)
		messages = append(messages, message)
	}
}

func TestCreateAccount(t *testing.T) {
	m := newStanding(t)
	group := m.seeded["Broker Admin"].Group
	for _, test := range []struct {
		name    string
		ledger  typev1.Ledger
		address string
	}{
		{"on Stellar", typev1.Ledger_LEDGER_STELLAR, `^G[A-Z2-7]{55}$`},
		{"on Ethereum", typev1.Ledger_LEDGER_ETHEREUM, `^0x[0-9a-fA-F]{40}$`},
		{"on Bitcoin", typev1.Ledger_LEDGER_BITCOIN, `^bc1q[a-z0-9]{38}$`},
		{"on XRP", typev1.Ledger_LEDGER_XRP, `^r[1-9A-HJ-NP-Za-km-z]{33}$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			account, err := accountv1.NewAccountServiceClient(m).CreateAccount(m.as(t, "Broker Admin"), &accountv1.CreateAccountRequest{Account: &accountv1.Account{
				Owner: group, Ledger: test.ledger, DisplayName: "New",
				Number: "1999999", LedgerId: "mine", State: accountv1.AccountState_ACCOUNT_STATE_OPEN, InternallyCreated: true,
				Balances: []*accountv1.Balance{{Amount: amountOf(xlm(), "1000000")}}}})
			wantCode(t, err, codes.OK)
			if !regexp.MustCompile(`^1[0-9]{6}$`).MatchString(account.GetNumber()) || account.GetNumber() == "1999999" {
				t.Errorf("its number is %s", account.GetNumber())
			}
			if !regexp.MustCompile(test.address).MatchString(account.GetLedgerId()) {
				t.Errorf("its address is %s", account.GetLedgerId())
			}
			live := m.account(t, account.GetName())
			if live.GetState() != accountv1.AccountState_ACCOUNT_STATE_CLOSED || len(live.GetBalances()) > 0 || live.GetInternallyCreated() {
				t.Errorf("what the caller sent was taken: %v", live)
			}
		})
	}
}

func TestOpeningAnAccountTakesATransaction(t *testing.T) {
	m := newStanding(t)
	name := m.open(t)
	stream, err := transactionv1.NewTransactionServiceClient(m).MonitorTransactionState(m.as(t, "Broker Admin"), &transactionv1.MonitorTransactionStateRequest{Name: name})
	wantCode(t, err, codes.OK)
	first, err := stream.Recv()
	wantCode(t, err, codes.OK)
	m.tick(t, 3)
	if state := m.account(t, closedAccount).GetState(); state != accountv1.AccountState_ACCOUNT_STATE_CLOSED {
		t.Errorf("before the transaction has ended the account is %s", state)
	}
	m.tick(t, 1)
	got := []string{first.GetState().String()}
	for _, change := range drain(t, stream) {
		got = append(got, change.GetState().String())
	}
	want := []string{"TRANSACTION_STATE_DRAFT", "TRANSACTION_STATE_SIGNING_IN_PROGRESS", "TRANSACTION_STATE_PENDING", "TRANSACTION_STATE_SUBMISSION_IN_PROGRESS", "TRANSACTION_STATE_SUCCESSFUL"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	account := m.account(t, closedAccount)
	if account.GetState() != accountv1.AccountState_ACCOUNT_STATE_OPEN || len(account.GetSignatories()) != 1 || account.GetSignatories()[0].GetResourceName() != m.seeded["Broker Admin"].Name {
		t.Errorf("after it: %v", account)
	}
	t.Run("a stream of what has ended ends at once", func(t *testing.T) {
		stream, err := transactionv1.NewTransactionServiceClient(m).MonitorTransactionState(m.as(t, "Broker Admin"), &transactionv1.MonitorTransactionStateRequest{Name: name})
		wantCode(t, err, codes.OK)
		if states := drain(t, stream); len(states) != 1 {
			t.Errorf("it sends %v", states)
		}
	})
}

// TestAccountRefusals calls what the state of an account does not allow.
func TestAccountRefusals(t *testing.T) {
	const (
		state   = codes.FailedPrecondition
		invalid = codes.InvalidArgument
	)
	open := func(name string) func(context.Context, accountv1.AccountServiceClient) error {
		return func(ctx context.Context, s accountv1.AccountServiceClient) error {
			_, err := s.OpenAccount(ctx, &accountv1.OpenAccountRequest{Name: name})
			return err
		}
	}
	register := func(name string, tokens ...*typev1.Token) func(context.Context, accountv1.AccountServiceClient) error {
		return func(ctx context.Context, s accountv1.AccountServiceClient) error {
			_, err := s.RegisterTokensToAccount(ctx, &accountv1.RegisterTokensToAccountRequest{Name: name, Tokens: tokens})
			return err
		}
	}
	deregister := func(name string, tokens ...*typev1.Token) func(context.Context, accountv1.AccountServiceClient) error {
		return func(ctx context.Context, s accountv1.AccountServiceClient) error {
			_, err := s.DeregisterTokensFromAccount(ctx, &accountv1.DeregisterTokensFromAccountRequest{Name: name, Tokens: tokens})
			return err
		}
	}
	add := func(name string, users ...string) func(context.Context, accountv1.AccountServiceClient) error {
		return func(ctx context.Context, s accountv1.AccountServiceClient) error {
			_, err := s.AddSignatoriesToAccount(ctx, &accountv1.AddSignatoriesToAccountRequest{Name: name, Users: users})
			return err
		}
	}
	remove := func(name string, users ...string) func(context.Context, accountv1.AccountServiceClient) error {
		return func(ctx context.Context, s accountv1.AccountServiceClient) error {
			_, err := s.RemoveSignatoriesFromAccount(ctx, &accountv1.RemoveSignatoriesFromAccountRequest{Name: name, Users: users})
			return err
		}
	}
	const admin, viewer, user = "iam/api_users/00000000000000000000000001", "iam/api_users/00000000000000000000000002", "users/00000000000000000000000001"
	for _, test := range []struct {
		name string
		call func(context.Context, accountv1.AccountServiceClient) error
		want codes.Code
	}{
		{"open one that is open", open(tradingAccount), state},
		{"open one that does not exist", open(unknownAccount), codes.NotFound},
		{"register on one that is not open", register(closedAccount, xlm()), state},
		{"register a token twice", register(tradingAccount, xlm()), state},
		{"register one token twice at a time", register(treasuryAccount, mzar(), mzar()), invalid},
		{"register a token of another ledger", register(treasuryAccount, eth()), invalid},
		{"register a token that is not known", register(treasuryAccount, &typev1.Token{Code: "DOGE", Ledger: typev1.Ledger_LEDGER_STELLAR}), invalid},
		{"register a token that is new", register(treasuryAccount, mzar()), codes.OK},
		{"deregister a token with a balance", deregister(tradingAccount, xlm()), state},
		{"deregister a token that is not registered", deregister(treasuryAccount, mzar()), state},
		{"add a signatory to one that is not open", add(closedAccount, user), state},
		{"add a signatory twice", add(tradingAccount, admin), state},
		{"add one that does not exist", add(tradingAccount, "users/ZZZZZZZZZZZZZZZZZZZZZZZZZZ"), codes.NotFound},
		{"add a user and an API user", add(tradingAccount, viewer, user), codes.OK},
		{"remove one that is none", remove(tradingAccount, user), state},
		{"remove one that is", remove(tradingAccount, admin), codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newStanding(t)
			wantCode(t, test.call(m.as(t, "Broker Admin"), accountv1.NewAccountServiceClient(m)), test.want)
		})
	}
	t.Run("open one that is being opened", func(t *testing.T) {
		m := newStanding(t)
		m.open(t)
		wantCode(t, open(closedAccount)(m.as(t, "Broker Admin"), accountv1.NewAccountServiceClient(m)), state)
	})
}

func TestSignatoriesAndTokensChangeOnceTheTransactionEnds(t *testing.T) {
	m := newStanding(t)
	service, ctx := accountv1.NewAccountServiceClient(m), m.as(t, "Broker Admin")
	const viewer = "iam/api_users/00000000000000000000000002"
	signs := func() bool {
		for _, signatory := range m.account(t, treasuryAccount).GetSignatories() {
			if signatory.GetResourceName() == viewer {
				return signatory.GetDisplayName() == "Broker Viewer"
			}
		}
		return false
	}
	registered := func() bool { held, _ := m.balance(t, treasuryAccount, mzar()); return held == "0" }
	for _, step := range []struct {
		name  string
		call  func() error
		holds func() bool
		want  bool
	}{
		{"add a signatory", func() error {
			_, err := service.AddSignatoriesToAccount(ctx, &accountv1.AddSignatoriesToAccountRequest{Name: treasuryAccount, Users: []string{viewer}})
			return err
		}, signs, true},
		{"remove it", func() error {
			_, err := service.RemoveSignatoriesFromAccount(ctx, &accountv1.RemoveSignatoriesFromAccountRequest{Name: treasuryAccount, Users: []string{viewer}})
			return err
		}, signs, false},
		{"register a token", func() error {
			_, err := service.RegisterTokensToAccount(ctx, &accountv1.RegisterTokensToAccountRequest{Name: treasuryAccount, Tokens: []*typev1.Token{mzar()}})
			return err
		}, registered, true},
		{"deregister it", func() error {
			_, err := service.DeregisterTokensFromAccount(ctx, &accountv1.DeregisterTokensFromAccountRequest{Name: treasuryAccount, Tokens: []*typev1.Token{mzar()}})
			return err
		}, registered, false},
	} {
		t.Run(step.name, func(t *testing.T) {
			wantCode(t, step.call(), codes.OK)
			m.tick(t, 3)
			if step.holds() == step.want {
				t.Error("it is done before the transaction has ended")
			}
			m.tick(t, 1)
			if step.holds() != step.want {
				t.Error("it is not done once the transaction has ended")
			}
		})
	}
}

func TestLedgerDataIsToldWhereItIsAskedFor(t *testing.T) {
	m := newStanding(t)
	service, ctx := accountv1.NewAccountServiceClient(m), m.as(t, "Broker Admin")
	for _, live := range []bool{false, true} {
		one, err := service.GetAccount(ctx, &accountv1.GetAccountRequest{Name: tradingAccount, PopulateLedgerData: live})
		wantCode(t, err, codes.OK)
		numbered, err := service.GetAccountByNumber(ctx, &accountv1.GetAccountByNumberRequest{AccountNumber: "1000001", PopulateLedgerData: live})
		wantCode(t, err, codes.OK)
		list, err := service.ListAccounts(ctx, &accountv1.ListAccountsRequest{PopulateLedgerData: live})
		wantCode(t, err, codes.OK)
		found, err := service.SearchAccounts(ctx, &accountv1.SearchAccountsRequest{PopulateLedgerData: live, DisplayName: "trading, STELLAR"})
		wantCode(t, err, codes.OK)
		for i, account := range []*accountv1.Account{one, numbered, list.GetAccounts()[0], found.GetAccounts()[0]} {
			told := account.GetState() == accountv1.AccountState_ACCOUNT_STATE_OPEN && len(account.GetBalances()) == 4 &&
				len(account.GetSignatories()) == 1 && account.GetLiveDataRetrievedAt() != nil
			hidden := account.GetState() == 0 && account.GetBalances() == nil && account.GetSignatories() == nil && account.GetLiveDataRetrievedAt() == nil
			if account.GetName() != tradingAccount || told != live || hidden == live {
				t.Errorf("asked for: %t; answer %d: %v", live, i, account)
			}
		}
	}
}

func TestUpdateAccountChangesTheDisplayNameOnly(t *testing.T) {
	m := newStanding(t)
	before := m.account(t, tradingAccount)
	_, err := accountv1.NewAccountServiceClient(m).UpdateAccount(m.as(t, "Broker Admin"), &accountv1.UpdateAccountRequest{Account: &accountv1.Account{
		Name: tradingAccount, Owner: m.seeded["Corporate Admin"].Group, Ledger: typev1.Ledger_LEDGER_XRP, Number: "1555555", DisplayName: "Renamed"}})
	wantCode(t, err, codes.OK)
	after := m.account(t, tradingAccount)
	if after.GetDisplayName() != "Renamed" || after.GetOwner() != before.GetOwner() || after.GetLedger() != before.GetLedger() || after.GetNumber() != before.GetNumber() {
		t.Errorf("%v", after)
	}
}

func TestAccountsFound(t *testing.T) {
	m := newStanding(t)
	service := accountv1.NewAccountServiceClient(m)
	corporate := m.seeded["Corporate Admin"].Group
	descending := &accountv1.SearchAccountsRequest_Sorting{Field: "number", Order: typev1.SortingOrder_SORTING_ORDER_DESC}
	for _, test := range []struct {
		name, caller string
		request      *accountv1.SearchAccountsRequest
		want         []string
	}{
		{"all, those of groups below too", "Broker Admin", &accountv1.SearchAccountsRequest{}, []string{"1000001", "1000002", "1000003", "1000004", "1000005", "1000006"}},
		{"only those below", "Corporate Admin", &accountv1.SearchAccountsRequest{}, []string{"1000006"}},
		{"those made by the system too", "Broker Admin", &accountv1.SearchAccountsRequest{ShowInternallyCreated: true, DisplayName: "settlement"}, []string{"1000007"}},
		{"not those made by the system", "Broker Admin", &accountv1.SearchAccountsRequest{DisplayName: "settlement"}, nil},
		{"by a part of the name, in any case", "Broker Admin", &accountv1.SearchAccountsRequest{DisplayName: "STELLAR"}, []string{"1000001", "1000002", "1000006"}},
		{"by owner", "Broker Admin", &accountv1.SearchAccountsRequest{Owner: []string{corporate}}, []string{"1000006"}},
		{"highest number first", "Broker Admin", &accountv1.SearchAccountsRequest{DisplayName: "Stellar", Sorting: descending}, []string{"1000006", "1000002", "1000001"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := service.SearchAccounts(m.as(t, test.caller), test.request)
			wantCode(t, err, codes.OK)
			var got []string
			for _, account := range found.GetAccounts() {
				got = append(got, account.GetNumber())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("a number that cannot be seen", func(t *testing.T) {
		for _, number := range []string{"1000001", "1999999"} {
			_, err := service.GetAccountByNumber(m.as(t, "Corporate Admin"), &accountv1.GetAccountByNumberRequest{AccountNumber: number})
			wantCode(t, err, codes.NotFound)
		}
	})
}

func TestAccountIsCreatedForTheExecutingGroupOnly(t *testing.T) {
	m := newStanding(t)
	for _, test := range []struct {
		name, owner string
		want        codes.Code
	}{
		{"itself", "Broker Admin", codes.OK},
		{"a group below", "Corporate Admin", codes.PermissionDenied},
		{"a group above", "Root Admin", codes.PermissionDenied},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := accountv1.NewAccountServiceClient(m).CreateAccount(m.as(t, "Broker Admin"), &accountv1.CreateAccountRequest{Account: &accountv1.Account{
				Owner: m.seeded[test.owner].Group, Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: "New"}})
			wantCode(t, err, test.want)
		})
	}
}

func TestAccountNumbersGoUpByOne(t *testing.T) {
	m := newStanding(t)
	var numbers []decimal.Decimal
	for range 2 {
		account, err := accountv1.NewAccountServiceClient(m).CreateAccount(m.as(t, "Broker Admin"), &accountv1.CreateAccountRequest{Account: &accountv1.Account{
			Owner: m.seeded["Broker Admin"].Group, Owners: []string{nobody}, Name: unknownAccount, Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: "New"}})
		wantCode(t, err, codes.OK)
		if account.GetName() == unknownAccount || len(account.GetOwners()) != 2 {
			t.Errorf("what the caller sent was taken: %v", account)
		}
		numbers = append(numbers, decimal.RequireFromString(account.GetNumber()))
	}
	if !numbers[1].Equal(numbers[0].Add(decimal.NewFromInt(1))) {
		t.Errorf("%v", numbers)
	}
}

func TestTransactionTakesOneStepATick(t *testing.T) {
	m := newStanding(t)
	name := m.open(t)
	for tick, want := range []transactionv1.TransactionState{
		transactionv1.TransactionState_TRANSACTION_STATE_DRAFT,
		transactionv1.TransactionState_TRANSACTION_STATE_SIGNING_IN_PROGRESS,
		transactionv1.TransactionState_TRANSACTION_STATE_PENDING,
		transactionv1.TransactionState_TRANSACTION_STATE_SUBMISSION_IN_PROGRESS,
		transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL,
		transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL,
	} {
		t.Run(fmt.Sprintf("tick %d", tick), func(t *testing.T) {
			if tick > 0 {
				m.tick(t, 1)
			}
			got, err := transactionv1.NewTransactionServiceClient(m).GetTransactionState(m.as(t, "Broker Admin"), &transactionv1.GetTransactionStateRequest{Name: name})
			wantCode(t, err, codes.OK)
			if got.GetState() != want {
				t.Errorf("%s, want %s", got.GetState(), want)
			}
		})
	}
}

func TestTransactionsAreSeenFromTheGroupAndAbove(t *testing.T) {
	m := newStanding(t)
	name := m.open(t)
	service := transactionv1.NewTransactionServiceClient(m)
	for _, test := range []struct {
		name, caller, transaction string
		want                      codes.Code
	}{
		{"its own", "Broker Admin", name, codes.OK},
		{"of a group above", "Corporate Admin", name, codes.NotFound},
		{"of nobody", "Broker Admin", "transactions/ZZZZZZZZZZZZZZZZZZZZZZZZZZ", codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := service.GetTransactionState(m.as(t, test.caller), &transactionv1.GetTransactionStateRequest{Name: test.transaction})
			wantCode(t, err, test.want)
			stream, err := service.MonitorTransactionState(m.as(t, test.caller), &transactionv1.MonitorTransactionStateRequest{Name: test.transaction})
			wantCode(t, err, codes.OK)
			_, err = stream.Recv()
			wantCode(t, err, test.want)
		})
	}
}

func TestDeregisterRefusesLikeRegister(t *testing.T) {
	m := newStanding(t)
	for _, test := range []struct {
		name, account string
		token         *typev1.Token
		want          codes.Code
	}{
		{"a token of another ledger", tradingAccount, eth(), codes.InvalidArgument},
		{"a token that is not known", tradingAccount, &typev1.Token{Code: "DOGE", Ledger: typev1.Ledger_LEDGER_STELLAR}, codes.InvalidArgument},
		{"an account that is not open", closedAccount, xlm(), codes.FailedPrecondition},
		{"an account that does not exist", unknownAccount, xlm(), codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := accountv1.NewAccountServiceClient(m).DeregisterTokensFromAccount(m.as(t, "Broker Admin"), &accountv1.DeregisterTokensFromAccountRequest{
				Name: test.account, Tokens: []*typev1.Token{test.token}})
			wantCode(t, err, test.want)
		})
	}
}

func TestDeregistrationFailsWhereABalanceArrivesMeanwhile(t *testing.T) {
	m := newStanding(t)
	_, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, corporateAccount), amountOf(mzar(), "1"))
	wantCode(t, err, codes.OK)
	answer, err := accountv1.NewAccountServiceClient(m).DeregisterTokensFromAccount(m.as(t, "Corporate Admin"), &accountv1.DeregisterTokensFromAccountRequest{
		Name: corporateAccount, Tokens: []*typev1.Token{mzar()}})
	wantCode(t, err, codes.OK)
	m.tick(t, 4)
	state, err := transactionv1.NewTransactionServiceClient(m).GetTransactionState(m.as(t, "Corporate Admin"), &transactionv1.GetTransactionStateRequest{Name: answer.GetLedgerTransaction()})
	wantCode(t, err, codes.OK)
	if held, _ := m.balance(t, corporateAccount, mzar()); held != "1" || state.GetState() != transactionv1.TransactionState_TRANSACTION_STATE_FAILED {
		t.Errorf("%s held, the transaction is %s", held, state.GetState())
	}
}

func TestASignatoryThatIsAPersonIsCalledByEmail(t *testing.T) {
	m := newStanding(t)
	_, err := accountv1.NewAccountServiceClient(m).AddSignatoriesToAccount(m.as(t, "Broker Admin"), &accountv1.AddSignatoriesToAccountRequest{
		Name: tradingAccount, Users: []string{"users/00000000000000000000000001"}})
	wantCode(t, err, codes.OK)
	m.tick(t, 4)
	signatories := m.account(t, tradingAccount).GetSignatories()
	if got := signatories[len(signatories)-1].GetDisplayName(); got != "operations@harbour.example" {
		t.Errorf("called %q", got)
	}
}

func TestAccountListSorting(t *testing.T) {
	m := newStanding(t)
	up := []string{"1000001", "1000002", "1000003", "1000004", "1000005", "1000006", "1000007"}
	down := slices.Clone(up)
	slices.Reverse(down)
	for _, test := range []struct {
		name, field string
		order       typev1.SortingOrder
		want        []string
	}{
		{"by creation, those of the system too", "", 0, up},
		{"by number", "number", typev1.SortingOrder_SORTING_ORDER_ASC, up},
		{"by number, descending", "number", typev1.SortingOrder_SORTING_ORDER_DESC, down},
	} {
		t.Run(test.name, func(t *testing.T) {
			list, err := accountv1.NewAccountServiceClient(m).ListAccounts(m.as(t, "Broker Admin"), &accountv1.ListAccountsRequest{
				Sorting: &accountv1.ListAccountsRequest_Sorting{Field: test.field, Order: test.order}})
			wantCode(t, err, codes.OK)
			var got []string
			for _, account := range list.GetAccounts() {
				got = append(got, account.GetNumber())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
