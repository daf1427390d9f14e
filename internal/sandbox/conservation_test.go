package sandbox

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// TestMoneyIsConserved makes random calls and lets random time pass. After each
// step, token by token, what was minted is held or was taken as a fee, no
// balance is below zero and no reservation above its balance. In the end every
// order and transfer has ended, and nothing is reserved.
func TestMoneyIsConserved(t *testing.T) {
	refused := 0
	rapid.Check(t, func(t *rapid.T) {
		s, err := openStore(options{clock: ClockManual, seed: rapid.Uint64().Draw(t, "seed"), random: newRandom, capacity: 1000})
		if err != nil {
			t.Fatal(err)
		}
		audit := func() {
			if err := s.audit(); err != nil {
				t.Fatal(err)
			}
		}
		audit()
		m := machine{store: s, t: t}
		for range rapid.IntRange(20, 60).Draw(t, "steps") {
			if err := m.step(); err != nil {
				refused++
				if code := status.Code(err); code != codes.FailedPrecondition && code != codes.InvalidArgument && code != codes.AlreadyExists {
					t.Fatalf("%v", err)
				}
			}
			audit()
		}
		m.end()
		audit()
	})
	if refused == 0 {
		t.Error("no call was refused; the calls are too tame")
	}
}

// TestATransfersFeeIsAccountedFor lets time pass, and makes the smallest of
// transfers: with its fee not booked, the ledger once held less than was minted.
func TestATransfersFeeIsAccountedFor(t *testing.T) {
	s, err := openStore(options{clock: ClockManual, seed: 0, random: newRandom, capacity: 1000})
	if err != nil {
		t.Fatal(err)
	}
	step := func(times int) {
		t.Helper()
		s.mu.Lock()
		defer s.mu.Unlock()
		for range times {
			s.step()
			if err := s.audit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	step(20)
	m := machine{store: s}
	trading, treasury := s.accounts.byName[s.accounts.order[0]], s.accounts.byName[s.accounts.order[1]]
	transfer, err := (&transfers{store: s}).CreateTransfer(m.ctx(), &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{
		Owner: brokerGroup, From: trading.GetLedgerId(), To: treasury.GetLedgerId(),
		Amount: &typev1.Amount{Token: xlm().message(), Value: &typev1.Decimal{Value: "1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	step(100)
	if state := s.transfers.byName[transfer.GetName()].GetState(); state != transferv1.TransferState_TRANSFER_STATE_SUCCESSFUL {
		t.Errorf("the transfer is %s", state)
	}
}

// machine draws calls of the broker's.
type machine struct {
	store *store
	t     *rapid.T
}

func (m *machine) ctx() context.Context {
	ctx := context.WithValue(context.Background(), groupKey{}, brokerGroup)
	return context.WithValue(ctx, entityKey{}, Seeded()[0].Name)
}

func (m *machine) account() *accountv1.Account {
	return m.store.accounts.byName[rapid.SampledFrom(m.store.accounts.byOwner[brokerGroup]).Draw(m.t, "account")]
}

func (m *machine) amount(t token) *typev1.Amount {
	text := rapid.OneOf(
		rapid.StringMatching(`[0-9]{1,5}(\.[0-9]{1,7})?`),
		rapid.SampledFrom([]string{"0", "-1", "1e9", "0.00000000000001", "", "1000000000000"}),
	).Draw(m.t, "value")
	return &typev1.Amount{Token: t.message(), Value: &typev1.Decimal{Value: text}}
}

func (m *machine) token() token {
	return rapid.SampledFrom(instruments()).Draw(m.t, "token").token
}

// step makes one call, or lets time pass.
func (m *machine) step() error {
	accounts := accounts{store: m.store}
	switch rapid.SampledFrom([]string{"time", "mint", "transfer", "transfer", "order", "order", "cancel", "register", "deregister", "open"}).Draw(m.t, "call") {
	case "time":
		m.store.mu.Lock()
		defer m.store.mu.Unlock()
		for range rapid.IntRange(1, 12).Draw(m.t, "ticks") {
			m.store.step()
		}
		return nil
	case "mint":
		taps := tokenTaps{store: m.store}
		if _, err := taps.InitialiseTokenTaps(m.ctx(), nil); err != nil {
			return err
		}
		_, err := taps.MintToken(m.ctx(), &tokentapv1.MintTokenRequest{Address: m.account().GetLedgerId(), Amount: m.amount(m.token())})
		return err
	case "transfer":
		_, err := (&transfers{store: m.store}).CreateTransfer(m.ctx(), &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{
			Owner: brokerGroup, From: m.account().GetLedgerId(), To: m.account().GetLedgerId(), Amount: m.amount(m.token())}})
		return err
	case "order":
		p := rapid.SampledFrom(pairs()).Draw(m.t, "pair")
		side := rapid.SampledFrom([]limitorderv1.LimitOrderSide{1, 2}).Draw(m.t, "side")
		price := rapid.SampledFrom([]string{p.start, "0.0001", "100", "3200", "0.2513"}).Draw(m.t, "price")
		_, err := (&limitOrders{store: m.store}).CreateLimitOrder(m.ctx(), &limitorderv1.CreateLimitOrderRequest{LimitOrder: &limitorderv1.LimitOrder{
			Owner: brokerGroup, Account: m.account().GetName(), Side: side, Quantity: m.amount(p.base),
			LimitPrice: &typev1.Amount{Token: p.quote.message(), Value: &typev1.Decimal{Value: price}}}})
		return err
	case "cancel":
		name := rapid.SampledFrom(m.store.orders.byOwner[brokerGroup]).Draw(m.t, "order")
		_, err := (&limitOrders{store: m.store}).CancelLimitOrder(m.ctx(), &limitorderv1.CancelLimitOrderRequest{Name: name})
		return err
	case "register":
		_, err := accounts.RegisterTokensToAccount(m.ctx(), &accountv1.RegisterTokensToAccountRequest{Name: m.account().GetName(), Tokens: []*typev1.Token{m.token().message()}})
		return err
	case "deregister":
		_, err := accounts.DeregisterTokensFromAccount(m.ctx(), &accountv1.DeregisterTokensFromAccountRequest{Name: m.account().GetName(), Tokens: []*typev1.Token{m.token().message()}})
		return err
	default:
		_, err := accounts.OpenAccount(m.ctx(), &accountv1.OpenAccountRequest{Name: m.account().GetName()})
		return err
	}
}

// end cancels what still rests and lets time pass until nothing is under way.
func (m *machine) end() {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	const enough = 20
	m.store.step()
	for _, name := range m.store.orders.order {
		if order := m.store.orders.byName[name]; order.GetState() == orderOpen {
			m.store.moveOrder(order, orderCancelling)
		}
	}
	for range enough {
		m.store.step()
	}
	if len(m.store.active) > 0 {
		m.t.Fatalf("still under way: %v", m.store.active)
	}
	for _, name := range m.store.transfers.order {
		if state := m.store.transfers.byName[name].GetState(); state == transferv1.TransferState_TRANSFER_STATE_IN_PROGRESS {
			m.t.Fatalf("%s is %s", name, state)
		}
	}
	for _, name := range m.store.wallets.order {
		for _, h := range m.store.wallets.byName[name].Holdings {
			if !h.Reserved.IsZero() {
				m.t.Fatalf("%s: %s of %s are reserved for nothing", name, h.Reserved, h.Token)
			}
		}
	}
}

// TestTheSameSeedAndCallsGiveTheSameAnswers plays the same day twice.
func TestTheSameSeedAndCallsGiveTheSameAnswers(t *testing.T) {
	play := func() string {
		s, err := openStore(options{clock: ClockManual, seed: 42, random: newRandom, capacity: 1000})
		if err != nil {
			t.Fatal(err)
		}
		m := machine{store: s}
		order, err := (&limitOrders{store: s}).CreateLimitOrder(m.ctx(), &limitorderv1.CreateLimitOrderRequest{LimitOrder: &limitorderv1.LimitOrder{
			Owner: brokerGroup, Account: s.accounts.order[0], Side: limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY,
			Quantity:   &typev1.Amount{Token: xlm().message(), Value: &typev1.Decimal{Value: "700"}},
			LimitPrice: &typev1.Amount{Token: usdc().message(), Value: &typev1.Decimal{Value: "0.3"}}}})
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for range time.Minute / tick {
			s.step()
		}
		text := order.String()
		for _, p := range pairs() {
			text += " " + s.markets.byName[p.key()].Price.String()
		}
		return text + s.orders.byName[order.GetName()].GetFillPrice().GetValue().GetValue()
	}
	// The text of a message has spaces that vary from build to build only.
	if first, second := play(), play(); first != second {
		t.Errorf("first %s\nthen  %s", first, second)
	}
}
