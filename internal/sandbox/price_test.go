package sandbox_test

import (
	"testing"

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
		{"two tokens that are no pair", xlm(), eth(), codes.NotFound},
		{"a token in itself", xlm(), xlm(), codes.NotFound},
		{"a token of another issuer", xlm(), &typev1.Token{Code: "USDC", Issuer: "other", Ledger: typev1.Ledger_LEDGER_STELLAR}, codes.NotFound},
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
