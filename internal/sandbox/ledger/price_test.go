package ledger_test

import (
	"testing"

	"github.com/shopspring/decimal"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
)

func TestPrice(t *testing.T) {
	b := open(t)
	for _, test := range []struct{ name, base, quote, price, value string }{
		{"a cryptocurrency in fiat", "XLM", "USD", "0.25", "0.25"},
		{"the other way around", "USD", "XLM", "4", "4"},
		{"a cryptocurrency in another", "ETH", "XLM", "12800", "12800"},
		{"a currency that is quoted per US dollar", "USD", "ZAR", "18", "18"},
		{"between two of those", "ZAR", "JPY", "8.55555555556", "8.55555555556"},
		{"between both kinds", "EUR", "ZAR", "20.88", "20.88"},
		{"a stablecoin of another currency", "EURC", "ZAR", "20.88", "20.88"},
		{"a price with few digits", "INR", "BTC", "0.000000119617224880", "0.000000119617224880"},
		{"a metal in US dollars", "XAG", "USD", "48", "48"},
		{"a metal in rand", "XAG", "ZAR", "864", "864"},
		{"a metal in another currency", "XAG", "EUR", "", "41.3793103448"},
		{"a metal in another", "XAU", "XAG", "", "83.3333333333"},
		{"a metal in a cryptocurrency", "XAU", "BTC", "", "0.0421052631579"},
		{"an equity in rand", "STX40", "ZAR", "120.5", "120.5"},
		{"an equity in another currency", "STX40", "USD", "", "6.69444444444"},
		{"an equity in another", "STX500", "STX40", "", "1.04564315353"},
		{"an asset in itself", "XAU", "XAU", "1", "1"},
		{"an unknown code", "NONE", "ZAR", "", ""},
		{"an unknown code in itself", "NONE", "NONE", "", ""},
		{"in an unknown code", "XLM", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := store.View(b.Store, func(tx *store.Tx) (struct{}, error) {
				for name, result := range map[string]struct {
					of   func(*store.Tx, string, string) (decimal.Decimal, bool)
					want string
				}{"price": {b.Price, test.price}, "value": {b.Value, test.value}} {
					got, ok := result.of(tx, test.base, test.quote)
					if ok != (result.want != "") || ok && !got.Equal(amount(result.want)) {
						t.Errorf("the %s is %s, %t; want %s", name, got, ok, result.want)
					}
				}
				return struct{}{}, nil
			})
			must(t, err)
		})
	}
}

// TestPricesWalk follows prices of each kind for a while.
func TestPricesWalk(t *testing.T) {
	// How far a price goes at most, as multiples of the first one.
	kinds := []struct{ code, in, low, high string }{
		{"XLM", "USD", "0.5", "2"},
		{"USDC", "USD", "0.999", "1.001"},
		{"mZAR", "ZAR", "0.999", "1.001"},
		{"XAU", "USD", "0.7", "1.3"},
		{"GBP", "USD", "0.9", "1.1"},
		{"USD", "ZAR", "0.9", "1.1"},
		{"STX40", "ZAR", "0.7", "1.3"},
	}
	walk := func(seed uint64) (path string) {
		b := open(t)
		must(t, b.update(func(tx *store.Tx) error {
			first, moved := make(map[string]decimal.Decimal), make(map[string]bool)
			for tick := range uint64(1000) {
				for _, kind := range kinds {
					price, ok := b.Value(tx, kind.code, kind.in)
					if !ok {
						t.Fatalf("%s has no price", kind.code)
					}
					if tick == 0 {
						first[kind.code] = price
					}
					if start := first[kind.code]; price.LessThan(start.Mul(amount(kind.low))) || price.GreaterThan(start.Mul(amount(kind.high))) {
						t.Fatalf("%s went from %s to %s", kind.code, start, price)
					}
					moved[kind.code] = moved[kind.code] || !price.Equal(first[kind.code])
					if tick == 999 && !moved[kind.code] {
						t.Errorf("%s has not moved from %s", kind.code, price)
					}
					if tick%200 == 199 {
						path += price.String() + " "
					}
				}
				must(t, b.MovePrices(tx, seed, tick))
			}
			return nil
		}))
		return path
	}
	first, again, other := walk(1), walk(1), walk(2)
	if first != again {
		t.Errorf("one seed walks to %s and to %s", first, again)
	}
	if first == other {
		t.Error("two seeds walk alike")
	}
}

// TestMarketsHavePrices checks that what trades has a price, of both tokens alike.
func TestMarketsHavePrices(t *testing.T) {
	b := open(t)
	for _, p := range ledger.Pairs() {
		t.Run(p.String(), func(t *testing.T) {
			_, err := store.View(b.Store, func(tx *store.Tx) (struct{}, error) {
				if price, ok := b.Price(tx, p.Base.Code, p.Quote.Code); !ok || !price.IsPositive() {
					t.Errorf("the price is %s, %t", price, ok)
				}
				return struct{}{}, nil
			})
			must(t, err)
			for _, token := range []ledger.Token{p.Base, p.Quote} {
				if _, ok := ledger.InstrumentOf(token); !ok || token.Ledger != p.Base.Ledger {
					t.Errorf("%s cannot be held beside %s", token, p.Base)
				}
			}
		})
	}
}
