package sandbox_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
	"google.golang.org/grpc/codes"

	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

const (
	buy  = limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY
	sell = limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_SELL

	submitting = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_SUBMISSION_IN_PROGRESS
	refused    = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_SUBMISSION_FAILED
	open       = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_OPEN
	completing = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_COMPLETE_IN_PROGRESS
	complete   = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_COMPLETE
	cancelling = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_CANCELLATION_IN_PROGRESS
	cancelled  = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_CANCELLED
)

// order places an order of the broker's for XLM in USDC.
func (m standing) order(t *testing.T, side limitorderv1.LimitOrderSide, quantity, price, reference string) *limitorderv1.LimitOrder {
	t.Helper()
	order, err := m.place(t, &limitorderv1.LimitOrder{Side: side, Quantity: amountOf(xlm(), quantity), LimitPrice: amountOf(usdc(), price), ExternalReference: reference})
	wantCode(t, err, codes.OK)
	return order
}

func (m standing) place(t *testing.T, order *limitorderv1.LimitOrder) (*limitorderv1.LimitOrder, error) {
	t.Helper()
	caller := "Broker Admin"
	if order.Account == "" {
		order.Account = tradingAccount
	}
	if order.Account == corporateAccount && order.Owner == "" {
		caller = "Corporate Admin"
	}
	if order.Owner == "" {
		order.Owner = m.seeded[caller].Group
	}
	return limitorderv1.NewLimitOrderServiceClient(m).CreateLimitOrder(m.as(t, caller), &limitorderv1.CreateLimitOrderRequest{LimitOrder: order})
}

// live is an order with its fills.
func (m standing) live(t *testing.T, name string) *limitorderv1.LimitOrder {
	t.Helper()
	order, err := limitorderv1.NewLimitOrderServiceClient(m).GetLimitOrder(m.as(t, "Broker Admin"), &limitorderv1.GetLimitOrderRequest{Name: name, LiveLedgerData: true})
	wantCode(t, err, codes.OK)
	return order
}

func (m standing) cancel(t *testing.T, name string) error {
	t.Helper()
	_, err := limitorderv1.NewLimitOrderServiceClient(m).CancelLimitOrder(m.as(t, "Broker Admin"), &limitorderv1.CancelLimitOrderRequest{Name: name})
	return err
}

// TestLimitOrderStates follows orders through each way there is.
func TestLimitOrderStates(t *testing.T) {
	for _, test := range []struct {
		name  string
		price string
		// act is done after so many ticks.
		after int
		act   func(*testing.T, standing, string)
		want  []limitorderv1.LimitOrderState
	}{
		{"filled at once", "0.3", 0, nil, []limitorderv1.LimitOrderState{submitting, open, completing, complete}},
		{"cancelled while it rests", "0.13", 5, func(t *testing.T, m standing, name string) { wantCode(t, m.cancel(t, name), codes.OK) },
			[]limitorderv1.LimitOrderState{submitting, open, cancelling, cancelled}},
		{"cancelled while it is submitted", "0.3", 0, func(t *testing.T, m standing, name string) { wantCode(t, m.cancel(t, name), codes.OK) },
			[]limitorderv1.LimitOrderState{submitting, cancelling, cancelled}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newStanding(t)
			order := m.order(t, buy, "100", test.price, "")
			stream, err := limitorderv1.NewLimitOrderServiceClient(m).MonitorLimitOrder(m.as(t, "Broker Admin"), &limitorderv1.MonitorLimitOrderRequest{
				Identifier: &limitorderv1.MonitorLimitOrderRequest_Name{Name: order.GetName()}})
			wantCode(t, err, codes.OK)
			first, err := stream.Recv()
			wantCode(t, err, codes.OK)
			if test.after > 0 {
				m.tick(t, test.after)
			}
			if test.act != nil {
				test.act(t, m, order.GetName())
			}
			m.tick(t, 8)
			got := []limitorderv1.LimitOrderState{first.GetState()}
			for _, change := range drain(t, stream) {
				got = append(got, change.GetState())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSubmissionFailsWhereATokenWasDeregistered(t *testing.T) {
	m := newStanding(t)
	// An account that pays in USDC and has no XLM yet.
	service, ctx := accountv1.NewAccountServiceClient(m), m.as(t, "Corporate Admin")
	deregister := func(token *typev1.Token) {
		_, err := service.DeregisterTokensFromAccount(ctx, &accountv1.DeregisterTokensFromAccountRequest{Name: corporateAccount, Tokens: []*typev1.Token{token}})
		wantCode(t, err, codes.OK)
	}
	deregister(mzar())
	m.tick(t, 3)
	order, err := m.place(t, &limitorderv1.LimitOrder{Account: corporateAccount, Side: sell, Quantity: amountOf(xlm(), "10"), LimitPrice: amountOf(mzar(), "4")})
	wantCode(t, err, codes.OK)
	m.tick(t, 1) // mZAR goes, and then the order is submitted
	if got := m.live(t, order.GetName()).GetState(); got != refused {
		t.Errorf("it is %s", got)
	}
	if held, available := m.balance(t, corporateAccount, xlm()); held != available {
		t.Errorf("%s held and %s available: something is still reserved", held, available)
	}
}

// TestLimitOrderReserves looks at what is available while an order rests.
func TestLimitOrderReserves(t *testing.T) {
	m := newStanding(t)
	for _, test := range []struct {
		name            string
		side            limitorderv1.LimitOrderSide
		quantity, price string
		token           *typev1.Token
		reserved        string
	}{
		{"a buy: price x quantity of the quote token", buy, "1000.5", "0.1301", usdc(), "130.16505"},
		{"rounded up to what the ledger holds", buy, "0.0000001", "0.13", usdc(), "0.0000001"},
		{"a sell: the quantity", sell, "1000.5", "0.45", xlm(), "1000.5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			available := func() decimal.Decimal {
				_, available := m.balance(t, tradingAccount, test.token)
				return decimal.RequireFromString(available)
			}
			before := available()
			during := before.Sub(decimal.RequireFromString(test.reserved))
			check := func(when string, want decimal.Decimal) {
				t.Helper()
				if got := available(); !got.Equal(want) {
					t.Errorf("%s: %s are available, want %s", when, got, want)
				}
			}
			order := m.order(t, test.side, test.quantity, test.price, "")
			check("submitting", during)
			m.tick(t, 4)
			check("open", during)
			wantCode(t, m.cancel(t, order.GetName()), codes.OK)
			check("cancelling", during)
			m.tick(t, 1)
			check("cancelled", before)
		})
	}
}

// TestLargeOrderFillsInParts polls an order that is larger than what the market takes in a tick, which is
// 500 XLM.
func TestLargeOrderFillsInParts(t *testing.T) {
	m := newStanding(t)
	text, _ := m.balance(t, tradingAccount, usdc())
	before := decimal.RequireFromString(text)
	order := m.order(t, buy, "1200", "0.3", "parts")
	var polled []string
	for range 6 {
		m.tick(t, 1)
		polled = append(polled, m.live(t, order.GetName()).GetFilledQuantity().GetValue().GetValue())
	}
	if diff := cmp.Diff([]string{"0", "500", "1000", "1200", "1200", "1200"}, polled); diff != "" {
		t.Error(diff)
	}

	// The price is what was paid over what was got, whatever the prices of the
	// parts were.
	held, _ := m.balance(t, tradingAccount, usdc())
	paid := before.Sub(decimal.RequireFromString(held))
	price := decimal.RequireFromString(m.live(t, order.GetName()).GetFillPrice().GetValue().GetValue())
	if difference := price.Mul(decimal.NewFromInt(1200)).Sub(paid).Abs(); difference.GreaterThan(decimal.RequireFromString("0.000001")) {
		t.Errorf("%s paid, and the fill price is %s", paid, price)
	}
	if xlmHeld, _ := m.balance(t, tradingAccount, xlm()); xlmHeld != "103200" {
		t.Errorf("%s XLM are held", xlmHeld)
	}
}

func TestLimitOrderRefusals(t *testing.T) {
	m := newStanding(t)
	m.order(t, buy, "1", "0.13", "taken")
	for _, test := range []struct {
		name  string
		order *limitorderv1.LimitOrder
		want  codes.Code
	}{
		{"a reference that the owner has used", &limitorderv1.LimitOrder{Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "0.13"), ExternalReference: "taken"}, codes.AlreadyExists},
		{"one that another owner has used", &limitorderv1.LimitOrder{Account: corporateAccount, Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "0.13"), ExternalReference: "taken"}, codes.OK},
		{"no reference, again and again", &limitorderv1.LimitOrder{Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "0.13")}, codes.OK},
		{"more than is available, a buy", &limitorderv1.LimitOrder{Side: buy, Quantity: amountOf(xlm(), "300000"), LimitPrice: amountOf(usdc(), "0.13")}, codes.FailedPrecondition},
		{"more than is available, a sell", &limitorderv1.LimitOrder{Side: sell, Quantity: amountOf(xlm(), "102000"), LimitPrice: amountOf(usdc(), "0.13")}, codes.FailedPrecondition},
		{"a pair that does not trade", &limitorderv1.LimitOrder{Side: buy, Quantity: amountOf(usdc(), "1"), LimitPrice: amountOf(xlm(), "1")}, codes.FailedPrecondition},
		{"a token that the account has not registered", &limitorderv1.LimitOrder{Account: treasuryAccount, Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(mzar(), "1")}, codes.FailedPrecondition},
		{"an account that is not open", &limitorderv1.LimitOrder{Account: closedAccount, Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "1")}, codes.FailedPrecondition},
		{"another owner's account", &limitorderv1.LimitOrder{Account: corporateAccount, Owner: m.seeded["Broker Admin"].Group, Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "1")}, codes.PermissionDenied},
		{"an account that does not exist", &limitorderv1.LimitOrder{Account: unknownAccount, Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "1")}, codes.NotFound},
		{"another owner", &limitorderv1.LimitOrder{Owner: m.seeded["Corporate Admin"].Group, Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "1")}, codes.PermissionDenied},
		{"a price of nothing", &limitorderv1.LimitOrder{Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "0")}, codes.InvalidArgument},
		{"a quantity below what the ledger holds", &limitorderv1.LimitOrder{Side: buy, Quantity: amountOf(xlm(), "0.00000001"), LimitPrice: amountOf(usdc(), "1")}, codes.InvalidArgument},
		{"no side", &limitorderv1.LimitOrder{Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "1")}, codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := m.place(t, test.order)
			wantCode(t, err, test.want)
		})
	}
}

func TestCancelRefusals(t *testing.T) {
	m := newStanding(t)
	filled, resting := m.order(t, buy, "10", "0.3", ""), m.order(t, buy, "10", "0.13", "")
	m.tick(t, 2)
	if got := m.live(t, filled.GetName()).GetState(); got != completing {
		t.Fatalf("it is %s", got)
	}
	wantCode(t, m.cancel(t, filled.GetName()), codes.FailedPrecondition)
	m.tick(t, 1)
	wantCode(t, m.cancel(t, filled.GetName()), codes.FailedPrecondition)
	wantCode(t, m.cancel(t, resting.GetName()), codes.OK)
	wantCode(t, m.cancel(t, resting.GetName()), codes.FailedPrecondition)
	m.tick(t, 1)
	wantCode(t, m.cancel(t, resting.GetName()), codes.FailedPrecondition)
	wantCode(t, m.cancel(t, "limit_orders/ZZZZZZZZZZZZZZZZZZZZZZZZZZ"), codes.NotFound)
}

func TestLimitOrdersFound(t *testing.T) {
	m := newStanding(t)
	service := limitorderv1.NewLimitOrderServiceClient(m)
	for _, test := range []struct {
		name, caller string
		request      *limitorderv1.SearchLimitOrdersRequest
		want         []string
	}{
		{"all", "Broker Admin", &limitorderv1.SearchLimitOrdersRequest{}, []string{"seed-1", "seed-2", "seed-3", "seed-4", "seed-5", "seed-6"}},
		{"of the group alone", "Corporate Admin", &limitorderv1.SearchLimitOrdersRequest{}, []string{"seed-6"}},
		{"by a token that is sold or bought", "Broker Admin", &limitorderv1.SearchLimitOrdersRequest{Token: "USDC"}, []string{"seed-1", "seed-2", "seed-4", "seed-6"}},
		{"by account", "Broker Admin", &limitorderv1.SearchLimitOrdersRequest{Account: ethereumAccount}, []string{"seed-4"}},
		{"by states", "Broker Admin", &limitorderv1.SearchLimitOrdersRequest{States: []limitorderv1.LimitOrderState{complete, cancelled}}, []string{"seed-1", "seed-4", "seed-5"}},
		{"by all of them", "Broker Admin", &limitorderv1.SearchLimitOrdersRequest{Token: "XLM", Account: tradingAccount, States: []limitorderv1.LimitOrderState{open}}, []string{"seed-2", "seed-3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := service.SearchLimitOrders(m.as(t, test.caller), test.request)
			wantCode(t, err, codes.OK)
			var got []string
			for _, order := range found.GetLimitOrders() {
				got = append(got, order.GetExternalReference())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, test := range []struct {
		name, caller, reference string
		want                    codes.Code
	}{
		{"by a reference of its own", "Broker Admin", "seed-1", codes.OK},
		{"by one of a group below", "Broker Admin", "seed-6", codes.OK},
		{"not by one of a group above", "Corporate Admin", "seed-1", codes.NotFound},
		{"not by one of nobody", "Broker Admin", "seed-99", codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			order, err := service.GetLimitOrderByExternalReference(m.as(t, test.caller), &limitorderv1.GetLimitOrderByExternalReferenceRequest{ExternalReference: test.reference})
			wantCode(t, err, test.want)
			if err == nil && order.GetExternalReference() != test.reference {
				t.Errorf("it is %v", order)
			}
		})
	}
	t.Run("a stream needs one of the two", func(t *testing.T) {
		stream, err := service.MonitorLimitOrder(m.as(t, "Broker Admin"), &limitorderv1.MonitorLimitOrderRequest{})
		wantCode(t, err, codes.OK)
		_, err = stream.Recv()
		wantCode(t, err, codes.InvalidArgument)
	})
}

func TestOrderCancelledWhenPartlyFilledKeepsWhatWasFilled(t *testing.T) {
	for _, test := range []struct {
		name  string
		side  limitorderv1.LimitOrderSide
		price string
	}{{"a buy", buy, "0.3"}, {"a sell", sell, "0.15"}} {
		t.Run(test.name, func(t *testing.T) {
			m := newStanding(t)
			order := m.order(t, test.side, "1200", test.price, "")
			m.tick(t, 2)
			wantCode(t, m.cancel(t, order.GetName()), codes.OK)
			m.tick(t, 4)
			got := m.live(t, order.GetName())
			if got.GetState() != cancelled || got.GetFilledQuantity().GetValue().GetValue() != "500" {
				t.Errorf("%s, %s filled", got.GetState(), got.GetFilledQuantity().GetValue().GetValue())
			}
			// The seed reserves 1000 XLM and 130 USDC for orders that rest.
			for _, rest := range []struct {
				token *typev1.Token
				left  string
			}{{xlm(), "1000"}, {usdc(), "130"}} {
				held, available := m.balance(t, tradingAccount, rest.token)
				if diff := decimal.RequireFromString(held).Sub(decimal.RequireFromString(available)); !diff.Equal(decimal.RequireFromString(rest.left)) {
					t.Errorf("%s of %s reserved, want %s", diff, rest.token.GetCode(), rest.left)
				}
			}
		})
	}
}

// TestFillPriceIsVolumeWeighted fills an order over several price steps.
func TestFillPriceIsVolumeWeighted(t *testing.T) {
	for _, test := range []struct {
		name  string
		side  limitorderv1.LimitOrderSide
		limit string
	}{{"a buy", buy, "0.5"}, {"a sell", sell, "0.1"}} {
		t.Run(test.name, func(t *testing.T) {
			m := newStanding(t)
			order := m.order(t, test.side, "9700", test.limit, "")
			sum, filled, prices := decimal.Zero, decimal.Zero, make(map[string]bool)
			for range 24 {
				m.tick(t, 1)
				price, err := m.price(t, xlm(), usdc())
				wantCode(t, err, codes.OK)
				now := decimal.RequireFromString(m.live(t, order.GetName()).GetFilledQuantity().GetValue().GetValue())
				if part := now.Sub(filled); part.IsPositive() {
					sum, filled = sum.Add(part.Mul(price)), now
					prices[price.String()] = true
				}
			}
			got := m.live(t, order.GetName())
			if len(prices) < 2 || got.GetState() != complete {
				t.Fatalf("%s at the prices %v", got.GetState(), prices)
			}
			want := sum.Div(filled)
			if off := decimal.RequireFromString(got.GetFillPrice().GetValue().GetValue()).Sub(want).Abs(); off.GreaterThan(decimal.RequireFromString("0.00000001")) {
				t.Errorf("%s, want %s", got.GetFillPrice().GetValue().GetValue(), want)
			}
		})
	}
}

// TestLedgerDataOfAnOrder reads an order in each way, with and without live data. The state comes from the
// ledger, as the fills do.
func TestLedgerDataOfAnOrder(t *testing.T) {
	m := newStanding(t)
	order := m.order(t, buy, "10", "0.3", "hidden")
	m.tick(t, 4)
	service, ctx := limitorderv1.NewLimitOrderServiceClient(m), m.as(t, "Broker Admin")
	last := func(orders []*limitorderv1.LimitOrder, err error) (*limitorderv1.LimitOrder, error) {
		if err != nil {
			return nil, err
		}
		return orders[len(orders)-1], nil
	}
	for _, live := range []bool{false, true} {
		for name, read := range map[string]func() (*limitorderv1.LimitOrder, error){
			"get": func() (*limitorderv1.LimitOrder, error) {
				return service.GetLimitOrder(ctx, &limitorderv1.GetLimitOrderRequest{Name: order.GetName(), LiveLedgerData: live})
			},
			"get by reference": func() (*limitorderv1.LimitOrder, error) {
				return service.GetLimitOrderByExternalReference(ctx, &limitorderv1.GetLimitOrderByExternalReferenceRequest{ExternalReference: "hidden", LiveLedgerData: live})
			},
			"list": func() (*limitorderv1.LimitOrder, error) {
				list, err := service.ListLimitOrders(ctx, &limitorderv1.ListLimitOrdersRequest{LiveLedgerData: live})
				return last(list.GetLimitOrders(), err)
			},
			"search": func() (*limitorderv1.LimitOrder, error) {
				found, err := service.SearchLimitOrders(ctx, &limitorderv1.SearchLimitOrdersRequest{LiveLedgerData: live})
				return last(found.GetLimitOrders(), err)
			},
		} {
			t.Run(fmt.Sprintf("%s, live %t", name, live), func(t *testing.T) {
				got, err := read()
				wantCode(t, err, codes.OK)
				set := got.GetFillPrice() != nil && got.GetFilledQuantity() != nil && got.GetState() == complete
				unset := got.GetFillPrice() == nil && got.GetFilledQuantity() == nil && got.GetState() == 0
				if got.GetName() != order.GetName() || set != live || unset == live {
					t.Errorf("%v", got)
				}
			})
		}
	}
}

// TestLedgerDataOfAWrite looks at the answers to the writes, which cannot request live data.
func TestLedgerDataOfAWrite(t *testing.T) {
	m := newStanding(t)
	created := m.order(t, buy, "10", "0.13", "")
	cancelled, err := limitorderv1.NewLimitOrderServiceClient(m).CancelLimitOrder(m.as(t, "Broker Admin"), &limitorderv1.CancelLimitOrderRequest{Name: created.GetName()})
	wantCode(t, err, codes.OK)
	for name, order := range map[string]*limitorderv1.LimitOrder{"create": created, "cancel": cancelled} {
		t.Run(name, func(t *testing.T) {
			if order.GetState() != 0 || order.GetFilledQuantity() != nil || order.GetFillPrice() != nil || order.GetNumber() == "" || order.GetSubmittedAt() == nil {
				t.Errorf("%v", order)
			}
		})
	}
	if got := m.live(t, created.GetName()).GetState(); got != cancelling {
		t.Errorf("it is %s", got)
	}
}

// TestCreateLimitOrderIgnoresWhatTheServerSets sends all fields that the server sets.
func TestCreateLimitOrderIgnoresWhatTheServerSets(t *testing.T) {
	m := newStanding(t)
	const sent = "limit_orders/ZZZZZZZZZZZZZZZZZZZZZZZZZZ"
	order, err := m.place(t, &limitorderv1.LimitOrder{
		Name: sent, Owners: []string{nobody}, Number: "999", State: complete, FilledQuantity: amountOf(xlm(), "1"), FillPrice: amountOf(usdc(), "1"),
		Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "0.13")})
	wantCode(t, err, codes.OK)
	got := m.live(t, order.GetName())
	if got.GetName() == sent || len(got.GetOwners()) != 2 || got.GetNumber() != "7" || got.GetState() != submitting ||
		got.GetFilledQuantity().GetValue().GetValue() != "0" || got.GetFillPrice().GetValue().GetValue() != "0" {
		t.Errorf("%v", got)
	}
}

func TestAReferenceStaysTakenWhenItsOrderHasEnded(t *testing.T) {
	m := newStanding(t)
	order := m.order(t, buy, "1", "0.13", "once")
	wantCode(t, m.cancel(t, order.GetName()), codes.OK)
	m.tick(t, 1)
	_, err := m.place(t, &limitorderv1.LimitOrder{Side: buy, Quantity: amountOf(xlm(), "1"), LimitPrice: amountOf(usdc(), "0.13"), ExternalReference: "once"})
	wantCode(t, err, codes.AlreadyExists)
}

func TestAnOrderRestsWhileWhatItReceivesIsNotRegistered(t *testing.T) {
	m := newStanding(t)
	service, ctx := accountv1.NewAccountServiceClient(m), m.as(t, "Corporate Admin")
	_, err := service.DeregisterTokensFromAccount(ctx, &accountv1.DeregisterTokensFromAccountRequest{Name: corporateAccount, Tokens: []*typev1.Token{mzar()}})
	wantCode(t, err, codes.OK)
	m.tick(t, 2)
	order, err := m.place(t, &limitorderv1.LimitOrder{Account: corporateAccount, Side: sell, Quantity: amountOf(xlm(), "10"), LimitPrice: amountOf(mzar(), "2.3")})
	wantCode(t, err, codes.OK)
	m.tick(t, 6) // open, then mZAR goes, then nothing can fill
	if got := m.live(t, order.GetName()); got.GetState() != open || got.GetFilledQuantity().GetValue().GetValue() != "0" {
		t.Fatalf("%v", got)
	}
	_, err = service.RegisterTokensToAccount(ctx, &accountv1.RegisterTokensToAccountRequest{Name: corporateAccount, Tokens: []*typev1.Token{mzar()}})
	wantCode(t, err, codes.OK)
	m.tick(t, 8)
	if got := m.live(t, order.GetName()).GetState(); got != complete {
		t.Errorf("once it is back: %s", got)
	}
}

// TestMonitorSendsChangesOfTheState watches an order that fills in 80 parts, none of which is a change of
// its state.
func TestMonitorSendsChangesOfTheState(t *testing.T) {
	for _, test := range []struct {
		name string
		live bool
		want []string
	}{
		{"without live data", false, []string{"SUBMISSION_IN_PROGRESS", "OPEN", "COMPLETE_IN_PROGRESS", "COMPLETE"}},
		{"with live data, and the fills", true, []string{"SUBMISSION_IN_PROGRESS 0", "OPEN 0", "COMPLETE_IN_PROGRESS 40000", "COMPLETE 40000"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newStanding(t)
			m.order(t, buy, "40000", "0.5", "parts")
			stream, err := limitorderv1.NewLimitOrderServiceClient(m).MonitorLimitOrder(m.as(t, "Broker Admin"), &limitorderv1.MonitorLimitOrderRequest{
				Identifier: &limitorderv1.MonitorLimitOrderRequest_ExternalReference{ExternalReference: "parts"}, LiveLedgerData: test.live})
			wantCode(t, err, codes.OK)
			first, err := stream.Recv()
			wantCode(t, err, codes.OK)
			m.tick(t, 100)
			var got []string
			for _, change := range append([]*limitorderv1.LimitOrder{first}, drain(t, stream)...) {
				text := strings.TrimPrefix(change.GetState().String(), "LIMIT_ORDER_STATE_")
				if change.GetFilledQuantity() != nil || change.GetFillPrice() != nil {
					text += " " + change.GetFilledQuantity().GetValue().GetValue()
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
