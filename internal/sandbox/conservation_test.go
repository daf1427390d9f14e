package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// TestMoneyIsConserved makes random calls and lets random time pass, in sandboxes with and without
// room and with and without a file. After each commit, token by token, what was minted is held or was
// taken as a fee, no balance is below zero, and what is reserved is what open orders and transfers
// require. A crash may come between any two commits; the sandbox then continues from its file. In
// the end every order and transfer has ended, and nothing is reserved.
//
// Run it with -rapid.checks=300 for more than the usual 100 runs.
func TestMoneyIsConserved(t *testing.T) {
	refused := make(map[string]int) // by call and code
	crashes, failed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := defaults()
		o.clock, o.random, o.seed = ClockManual, newRandom, rapid.Uint64().Draw(t, "seed")
		o.records = rapid.SampledFrom([]int{12, 15, 1000}).Draw(t, "records")
		o.bytes = rapid.SampledFrom([]int{9000, 10_000, 1 << 20}).Draw(t, "bytes")
		steps := rapid.IntRange(40, 150).Draw(t, "steps")
		m := &machine{t: t}
		if rapid.IntRange(0, 3).Draw(t, "file") == 0 {
			dir, err := os.MkdirTemp("", "sandbox")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			o.file, o.noSync = filepath.Join(dir, "0.db"), true
			steps /= 2 // they are slower
		}
		m.start(o)
		defer func() { m.stop() }()
		m.audit()
		for range steps {
			if call, err := m.step(); err != nil {
				code := status.Code(err)
				refused[call+" "+code.String()]++
				if !slices.Contains([]codes.Code{codes.FailedPrecondition, codes.InvalidArgument, codes.AlreadyExists, codes.ResourceExhausted}, code) {
					t.Fatalf("%v", err)
				}
			}
			m.audit()
			if o.file != "" && rapid.IntRange(0, 4).Draw(t, "crash") == 0 {
				m.crash()
				m.audit()
				crashes++
			}
		}
		m.end()
		failed += m.failed
	})
	t.Logf("refused: %v; %d transfers failed; %d crashes", refused, failed, crashes)
	for _, want := range []string{
		"order InvalidArgument", "order FailedPrecondition", "order ResourceExhausted",
		"transfer InvalidArgument", "transfer FailedPrecondition", "transfer ResourceExhausted",
		"account ResourceExhausted",
	} {
		if refused[want] == 0 {
			t.Errorf("%s did not happen; the calls are too tame", want)
		}
	}
	if crashes == 0 || failed == 0 {
		t.Errorf("%d crashes and %d transfers that failed; the calls are too tame", crashes, failed)
	}
}

// TestATransfersFeeIsAccountedFor lets time pass, and makes the smallest of
// transfers: with its fee not booked, the ledger once held less than was minted.
func TestATransfersFeeIsAccountedFor(t *testing.T) {
	m := newTestMesh(t, 0)
	step := func(times int) {
		t.Helper()
		for range times {
			if err := m.db.Continue(m.step); err != nil {
				t.Fatal(err)
			}
			if err := audit(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	step(20)
	trading, treasury := get(t, m, m.accounts, firstAccount), get(t, m, m.accounts, "accounts/00000000000000000000000002")
	transfer, err := (&transfers{mesh: m}).CreateTransfer(asBroker(), &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{
		Owner: brokerGroup, From: trading.GetLedgerId(), To: treasury.GetLedgerId(),
		Amount: &typev1.Amount{Token: ledger.XLM().Message(), Value: &typev1.Decimal{Value: "1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	step(100)
	if state := get(t, m, m.transfers, transfer.GetName()).GetState(); state != transferv1.TransferState_TRANSFER_STATE_SUCCESSFUL {
		t.Errorf("the transfer is %s", state)
	}
}

const firstAccount = "accounts/00000000000000000000000001"

func newTestMesh(t *testing.T, seed uint64) *mesh {
	t.Helper()
	o := defaults()
	o.clock, o.random, o.seed = ClockManual, newRandom, seed
	m, err := openMesh(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// asBroker is a call of the broker's.
func asBroker() context.Context {
	ctx := context.WithValue(context.Background(), groupKey{}, brokerGroup)
	return context.WithValue(ctx, entityKey{}, Seeded()[0].Name)
}

// get returns a record that is there.
func get[T store.Record](t interface{ Fatalf(string, ...any) }, m *mesh, table store.Table[T], name string) T {
	r, _ := store.View(m.db, func(tx *store.Tx) (T, error) {
		r, ok := table.Get(tx, name)
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		return r, nil
	})
	return r
}

// list returns the records of an owner.
func list[T store.Record](m *mesh, table store.Table[T], owner string) []T {
	found, _ := store.View(m.db, func(tx *store.Tx) ([]T, error) { return slices.Collect(table.Owned(tx, owner)), nil })
	return found
}

// audit checks the books of a sandbox against its orders and transfers.
func audit(m *mesh) error {
	_, err := store.View(m.db, func(tx *store.Tx) (struct{}, error) {
		type balance struct {
			account string
			token   ledger.Token
		}
		required := make(map[balance]decimal.Decimal)
		add := func(account string, t ledger.Token, amount decimal.Decimal) {
			at := balance{account, t}
			required[at] = required[at].Add(amount)
		}
		for order := range m.orders.All(tx) {
			t, amount := reservation(order)
			add(order.GetAccount(), t, amount)
		}
		for transfer := range m.transfers.All(tx) {
			from, _ := m.accountAt(tx, transfer.GetFrom())
			t, amount := transferReservation(transfer)
			add(from.GetName(), t, amount)
		}
		return struct{}{}, m.ledger.Audit(tx, func(account string, t ledger.Token) decimal.Decimal { return required[balance{account, t}] })
	})
	return err
}

// machine draws calls of the broker's.
type machine struct {
	*mesh
	t *rapid.T
	// crashes counts the files, and failed the transfers that failed.
	crashes, failed int
}

func (m *machine) start(o options) {
	var err error
	if m.mesh, err = openMesh(o); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) stop() {
	if err := m.db.Close(); err != nil {
		m.t.Error(err)
	}
}

// crash continues from the file as it is now, which is what a crash leaves.
func (m *machine) crash() {
	content, err := os.ReadFile(m.options.file)
	if err != nil {
		m.t.Fatal(err)
	}
	m.stop()
	m.crashes++
	o := m.options
	o.file = filepath.Join(filepath.Dir(o.file), strconv.Itoa(m.crashes)+".db")
	if err := os.WriteFile(o.file, content, 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.start(o)
}

func (m *machine) audit() {
	if err := audit(m.mesh); err != nil {
		m.t.Fatal(err)
	}
}

// account, token and pair often draw the first, so that calls fit together.
func (m *machine) account() *accountv1.Account {
	all := list(m.mesh, m.accounts, brokerGroup)
	return rapid.OneOf(rapid.Just(all[0]), rapid.SampledFrom(all[:2]), rapid.SampledFrom(all)).Draw(m.t, "account")
}

func (m *machine) amount(t ledger.Token) *typev1.Amount {
	text := rapid.OneOf(
		rapid.SampledFrom([]string{"1", "20", "750.5", "3000"}),
		rapid.StringMatching(`[0-9]{1,5}(\.[0-9]{1,7})?`),
		rapid.SampledFrom([]string{"0", "-1", "1e9", "0.00000000000001", "", "1000000000000"}),
	).Draw(m.t, "value")
	return &typev1.Amount{Token: t.Message(), Value: &typev1.Decimal{Value: text}}
}

func (m *machine) token() ledger.Token {
	all := ledger.Instruments()
	return rapid.OneOf(rapid.Just(all[0]), rapid.SampledFrom(all[:3]), rapid.SampledFrom(all)).Draw(m.t, "token").Token
}

// step makes one call, or lets time pass. It returns what was called.
func (m *machine) step() (call string, err error) {
	ctx, accounts := asBroker(), accounts{mesh: m.mesh}
	call = rapid.SampledFrom([]string{"time", "mint", "transfer", "transfer", "order", "order", "order", "cancel", "register", "deregister", "race", "open", "account", "group", "reset"}).Draw(m.t, "call")
	switch call {
	case "time":
		// Each tick is a commit.
		for range rapid.IntRange(1, 12).Draw(m.t, "ticks") {
			if err := m.db.Continue(m.mesh.step); err != nil {
				m.t.Fatalf("a tick failed: %v", err)
			}
			m.audit()
		}
	case "mint":
		taps := tokenTaps{mesh: m.mesh}
		if _, err := taps.InitialiseTokenTaps(ctx, nil); err != nil {
			return call, err
		}
		_, err = taps.MintToken(ctx, &tokentapv1.MintTokenRequest{Address: m.account().GetLedgerId(), Amount: m.amount(m.token())})
	case "transfer":
		to := list(m.mesh, m.accounts, brokerGroup)[1]
		if rapid.Bool().Draw(m.t, "elsewhere") {
			to = m.account()
		}
		transfer := &transferv1.Transfer{Owner: brokerGroup, From: m.account().GetLedgerId(), To: to.GetLedgerId(), Amount: m.amount(m.token())}
		err = m.repeat(func() error {
			_, err := (&transfers{mesh: m.mesh}).CreateTransfer(ctx, &transferv1.CreateTransferRequest{Transfer: transfer})
			return err
		})
	case "order":
		all := ledger.Pairs()
		p := rapid.OneOf(rapid.Just(all[0]), rapid.SampledFrom(all)).Draw(m.t, "pair")
		side := rapid.SampledFrom([]limitorderv1.LimitOrderSide{1, 2}).Draw(m.t, "side")
		price := rapid.SampledFrom([]string{"0.25", "4.5", "18", "120.5", "3200", "0.0001", "100", "0.2513"}).Draw(m.t, "price")
		order := &limitorderv1.LimitOrder{Owner: brokerGroup, Account: m.account().GetName(), Side: side, Quantity: m.amount(p.Base),
			LimitPrice: &typev1.Amount{Token: p.Quote.Message(), Value: &typev1.Decimal{Value: price}}}
		err = m.repeat(func() error {
			_, err := (&limitOrders{mesh: m.mesh}).CreateLimitOrder(ctx, &limitorderv1.CreateLimitOrderRequest{LimitOrder: order})
			return err
		})
	case "cancel":
		order := rapid.SampledFrom(list(m.mesh, m.orders, brokerGroup)).Draw(m.t, "order")
		_, err = (&limitOrders{mesh: m.mesh}).CancelLimitOrder(ctx, &limitorderv1.CancelLimitOrderRequest{Name: order.GetName()})
	case "register":
		_, err = accounts.RegisterTokensToAccount(ctx, &accountv1.RegisterTokensToAccountRequest{Name: m.account().GetName(), Tokens: []*typev1.Token{m.token().Message()}})
	case "deregister":
		_, err = accounts.DeregisterTokensFromAccount(ctx, &accountv1.DeregisterTokensFromAccountRequest{Name: m.account().GetName(), Tokens: []*typev1.Token{m.token().Message()}})
	case "race":
		// The receiver deregisters a token while a transfer of it is under way.
		all := list(m.mesh, m.accounts, brokerGroup)
		receiver, tokens := all[1], []*typev1.Token{ledger.MZAR().Message()}
		if _, err := accounts.RegisterTokensToAccount(ctx, &accountv1.RegisterTokensToAccountRequest{Name: receiver.GetName(), Tokens: tokens}); err != nil {
			return call, err
		}
		if err := m.advance(4); err != nil {
			return call, err
		}
		if _, err := accounts.DeregisterTokensFromAccount(ctx, &accountv1.DeregisterTokensFromAccountRequest{Name: receiver.GetName(), Tokens: tokens}); err != nil {
			return call, err
		}
		_, err = (&transfers{mesh: m.mesh}).CreateTransfer(ctx, &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{
			Owner: brokerGroup, From: all[0].GetLedgerId(), To: receiver.GetLedgerId(), Amount: m.amount(ledger.MZAR())}})
	case "open":
		_, err = accounts.OpenAccount(ctx, &accountv1.OpenAccountRequest{Name: m.account().GetName()})
	case "account":
		_, err = accounts.CreateAccount(ctx, &accountv1.CreateAccountRequest{Account: &accountv1.Account{Owner: brokerGroup, Ledger: typev1.Ledger_LEDGER_STELLAR}})
	case "group":
		_, err = (&groups{mesh: m.mesh}).CreateGroup(ctx, &groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: brokerGroup, Description: string(make([]byte, 1<<10))}})
	case "reset":
		if rapid.IntRange(0, 9).Draw(m.t, "really") == 9 {
			err = m.reset()
		}
	}
	return call, err
}

// repeat makes a call up to ten times, until it is refused.
func (m *machine) repeat(call func() error) error {
	for range rapid.IntRange(1, 10).Draw(m.t, "times") {
		if err := call(); err != nil {
			return err
		}
		m.audit()
	}
	return nil
}

// end cancels what still rests and lets time pass until nothing is under way.
func (m *machine) end() {
	const enough = 20
	if err := m.db.Continue(func(tx *store.Tx) error {
		if err := m.mesh.step(tx); err != nil {
			return err
		}
		for _, order := range slices.Collect(m.orders.Pending(tx)) {
			if order.GetState() == orderOpen {
				if _, err := m.moveOrder(tx, order, orderCancelling); err != nil {
					return err
				}
			}
		}
		for range enough {
			if err := m.mesh.step(tx); err != nil {
				return err
			}
		}
		for t := range m.transactions.Pending(tx) {
			m.t.Errorf("%s is %s", t.GetName(), t.State)
		}
		for order := range m.orders.Pending(tx) {
			m.t.Errorf("%s is %s", order.GetName(), order.GetState())
		}
		for transfer := range m.transfers.All(tx) {
			switch transfer.GetState() {
			case transferInProgress:
				m.t.Errorf("%s is %s", transfer.GetName(), transfer.GetState())
			case transferv1.TransferState_TRANSFER_STATE_FAILED:
				m.failed++
			}
		}
		return m.ledger.Audit(tx, func(string, ledger.Token) decimal.Decimal { return decimal.Zero })
	}); err != nil {
		m.t.Fatal(err)
	}
}

// TestTheSameSeedAndCallsGiveTheSameAnswers plays the same day twice.
func TestTheSameSeedAndCallsGiveTheSameAnswers(t *testing.T) {
	play := func() string {
		m := newTestMesh(t, 42)
		order, err := (&limitOrders{mesh: m}).CreateLimitOrder(asBroker(), &limitorderv1.CreateLimitOrderRequest{LimitOrder: &limitorderv1.LimitOrder{
			Owner: brokerGroup, Account: firstAccount, Side: limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY,
			Quantity:   &typev1.Amount{Token: ledger.XLM().Message(), Value: &typev1.Decimal{Value: "700"}},
			LimitPrice: &typev1.Amount{Token: ledger.USDC().Message(), Value: &typev1.Decimal{Value: "0.3"}}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.advance(int(time.Minute / tick)); err != nil {
			t.Fatal(err)
		}
		text := order.String()
		_, _ = store.View(m.db, func(tx *store.Tx) (struct{}, error) {
			for _, p := range ledger.Pairs() {
				price, _ := m.ledger.Price(tx, p.Base.Code, p.Quote.Code)
				text += " " + price.String()
			}
			return struct{}{}, nil
		})
		return text + get(t, m, m.orders, order.GetName()).GetFillPrice().GetValue().GetValue()
	}
	// The text of a message has spaces that vary from build to build only.
	if first, second := play(), play(); first != second {
		t.Errorf("first %s\nthen  %s", first, second)
	}
}
