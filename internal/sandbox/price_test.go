package sandbox_test

import (
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc/codes"

	pricev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/market_data/price/v1"
	marketorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/market_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

func (m standing) price(t *testing.T, base, quote *typev1.Token) (decimal.Decimal, error) {
	t.Helper()
	price, err := pricev1.NewPriceServiceClient(m).GetCurrentPriceByTokenPair(m.as(t, "Broker Admin"), &pricev1.GetCurrentPriceByTokenPairRequest{BaseToken: base, QuoteToken: quote})
	if err != nil {
		return decimal.Zero, err
	}
	return decimal.NewFromString(price.GetMidPrice().GetValue())
}

func TestPrices(t *testing.T) {
	m := newStanding(t)
	for _, test := range []struct {
		name        string
		base, quote *typev1.Token
		want        codes.Code
	}{
		{"a pair", xlm(), usdc(), codes.OK},
		{"the other way around", usdc(), xlm(), codes.OK},
		{"tokens of two ledgers", xlm(), eth(), codes.OK},
		{"a token in itself", xlm(), xlm(), codes.OK},
		{"a token of another issuer", xlm(), onStellar("USDC", "other"), codes.OK},
		{"an unknown token", xlm(), onStellar("NONE", usdcIssuer), codes.NotFound},
		{"no token", nil, usdc(), codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			price, err := m.price(t, test.base, test.quote)
			wantCode(t, err, test.want)
			if err == nil && !price.IsPositive() {
				t.Errorf("the price is %s", price)
			}
		})
	}
}

// TestPricesWalk follows a price for a while, in two sandboxes of one seed.
func TestPricesWalk(t *testing.T) {
	m, again := newStanding(t), newStanding(t)
	seen := make(map[string]bool)
	previous, err := m.price(t, xlm(), usdc())
	wantCode(t, err, codes.OK)
	for range 50 {
		m.tick(t, 4)
		again.tick(t, 4)
		price, err := m.price(t, xlm(), usdc())
		wantCode(t, err, codes.OK)
		same, err := again.price(t, xlm(), usdc())
		wantCode(t, err, codes.OK)
		if !price.Equal(same) {
			t.Fatalf("one seed, and the prices are %s and %s", price, same)
		}
		// A step is two thousandths at most, and a price has four decimals.
		if step := price.Sub(previous).Abs(); step.GreaterThan(decimal.RequireFromString("0.0011")) {
			t.Errorf("from %s to %s at a time", previous, price)
		}
		seen[price.String()], previous = true, price
	}
	if len(seen) < 5 {
		t.Errorf("in 50 steps it was %v", seen)
	}
}

func TestMarketOrders(t *testing.T) {
	m := newStanding(t)
	for _, test := range []struct {
		name, caller, number string
		want                 codes.Code
	}{
		{"its own", "Broker Admin", "1", codes.OK},
		{"of a group below", "Broker Admin", "3", codes.OK},
		{"of a group above", "Corporate Admin", "1", codes.NotFound},
		{"of nobody", "Broker Admin", "99", codes.NotFound},
		{"without a number", "Broker Admin", "", codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			order, err := marketorderv1.NewMarketOrderServiceClient(m).GetMarketOrder(m.as(t, test.caller), &marketorderv1.GetMarketOrderRequest{Number: test.number})
			wantCode(t, err, test.want)
			if err == nil && order.GetNumber() != test.number {
				t.Errorf("it is %v", order)
			}
		})
	}
}

func TestPriceSaysWhatItIsOfAndWhen(t *testing.T) {
	m := newStanding(t)
	m.tick(t, 8)
	forth, err := pricev1.NewPriceServiceClient(m).GetCurrentPriceByTokenPair(m.as(t, "Broker Admin"), &pricev1.GetCurrentPriceByTokenPairRequest{BaseToken: xlm(), QuoteToken: usdc()})
	wantCode(t, err, codes.OK)
	if want := clockStart.Add(20 * 250 * time.Millisecond); forth.GetBaseToken().GetCode() != "XLM" || forth.GetQuoteToken().GetCode() != "USDC" || !forth.GetTime().AsTime().Equal(want) {
		t.Errorf("%v", forth)
	}
	there, _ := m.price(t, xlm(), usdc())
	back, _ := m.price(t, usdc(), xlm())
	if off := there.Mul(back).Sub(decimal.NewFromInt(1)).Abs(); off.GreaterThan(decimal.New(1, -9)) {
		t.Errorf("%s there, %s back", there, back)
	}
}

func TestAnotherSeedIsAnotherWalk(t *testing.T) {
	walk := func(seed uint64) (text string) {
		s, err := sandbox.New(sandbox.WithClock(sandbox.ClockManual), sandbox.WithSeed(seed))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ctx := newStanding(t).as(t, "Broker Admin") // keys and groups are the same in every sandbox
		for range 10 {
			if err := s.Advance(time.Second); err != nil {
				t.Fatal(err)
			}
			price, err := pricev1.NewPriceServiceClient(s.Conn()).GetCurrentPriceByTokenPair(ctx, &pricev1.GetCurrentPriceByTokenPairRequest{BaseToken: xlm(), QuoteToken: usdc()})
			wantCode(t, err, codes.OK)
			text += price.GetMidPrice().GetValue() + " "
		}
		return text
	}
	if one, two := walk(1), walk(2); one == two {
		t.Error(one)
	}
}
