package ledger

import (
	"errors"
	"math/rand/v2"

	"github.com/shopspring/decimal"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
)

// class is a kind of asset. It decides what an asset is priced in, and how its price walks.
type class int

const (
	fiat class = iota
	crypto
	stablecoin
	metal
	equity
)

// walk is how far the prices of a class go: step is how far at a time, and from the first price at most
// down to low and up to high times it.
func (c class) walk() (step int64, low, high decimal.Decimal) {
	switch c {
	case fiat:
		return 5, decimal.New(90, -2), decimal.New(110, -2)
	case crypto:
		return 20, decimal.New(50, -2), decimal.New(200, -2)
	case stablecoin:
		return 1, decimal.New(999, -3), decimal.New(1001, -3)
	case metal, equity:
		return 10, decimal.New(70, -2), decimal.New(130, -2)
	}
	return 0, decimal.NewFromInt(1), decimal.NewFromInt(1)
}

// quotation is a price that is observed. All others follow from these.
type quotation struct {
	code  string
	class class
	// in is the asset in which the price is. If inverse is set, the price is that of one US dollar in
	// the asset, which is how these currencies are quoted.
	in      string
	inverse bool
	// start is the first price, and scale how many decimals prices have.
	start string
	scale int32
}

// usd is the currency that the others are quoted against.
const usd = "USD"

// quotations returns what is observed. The first prices are plausible, no more.
func quotations() []quotation {
	return []quotation{
		{"BTC", crypto, usd, false, "95000", 2},
		{"ETH", crypto, usd, false, "3200", 2},
		{"XLM", crypto, usd, false, "0.25", 5},
		{"SOL", crypto, usd, false, "160", 2},
		{"DOGE", crypto, usd, false, "0.18", 5},
		{"ADA", crypto, usd, false, "0.55", 5},
		{"DOT", crypto, usd, false, "4.2", 4},
		{"USDC", stablecoin, usd, false, "1", 4},
		{"USDT", stablecoin, usd, false, "1", 4},
		{"EURC", stablecoin, "EUR", false, "1", 4},
		{"mZAR", stablecoin, "ZAR", false, "1", 4},

		{"XAU", metal, usd, false, "4000", 2},
		{"XAG", metal, usd, false, "48", 3},
		{"XPT", metal, usd, false, "1550", 2},
		{"XPD", metal, usd, false, "1400", 2},

		{usd, fiat, usd, false, "1", 5},
		{"EUR", fiat, usd, false, "1.16", 5},
		{"GBP", fiat, usd, false, "1.32", 5},
		{"AUD", fiat, usd, false, "0.65", 5},
		{"NZD", fiat, usd, false, "0.57", 5},
		{"JPY", fiat, usd, true, "154", 3},
		{"ZAR", fiat, usd, true, "18", 4},
		{"CHF", fiat, usd, true, "0.8", 5},
		{"CAD", fiat, usd, true, "1.4", 5},
		{"CNY", fiat, usd, true, "7.1", 4},
		{"INR", fiat, usd, true, "88", 3},
		{"BRL", fiat, usd, true, "5.4", 4},

		{"STX40", equity, "ZAR", false, "120.5", 2},
		{"STXRAF", equity, "ZAR", false, "31", 2},
		{"STXWDM", equity, "ZAR", false, "118", 2},
		{"STXEMG", equity, "ZAR", false, "79", 2},
		{"STX500", equity, "ZAR", false, "126", 2},
		{"BRNDZ", equity, "ZAR", false, "17", 2},
		{"TITANS", equity, "ZAR", false, "22", 2},
	}
}

// Known reports whether the assets of a code have a value.
func (l *Ledger) Known(code string) bool {
	_, known := l.quoted[code]
	return known
}

// priced reports whether the price service has the price of one asset in another. Metals are priced in
// two currencies and equities in one.
func (l *Ledger) priced(base, quote string) bool {
	switch b, q := l.quoted[base].class, l.quoted[quote].class; {
	case !l.Known(base) || !l.Known(quote):
		return false
	case base == quote:
		return true
	case b == metal:
		return quote == usd || quote == "ZAR"
	case q == metal:
		return base == usd || base == "ZAR"
	case b == equity:
		return quote == "ZAR"
	case q == equity:
		return base == "ZAR"
	}
	return true // fiat currencies and cryptocurrencies
}

// prices are those of the quotations. It is the one record of its table.
type prices struct {
	// Of has the price of each code.
	Of map[string]decimal.Decimal
}

const pricesName = "prices"

func (*prices) GetName() string     { return pricesName }
func (*prices) GetOwner() string    { return "" }
func (*prices) GetOwners() []string { return nil }

// OpenMarkets sets the first prices.
func (l *Ledger) OpenMarkets(tx *store.Tx) error {
	first := &prices{Of: make(map[string]decimal.Decimal)}
	for _, q := range quotations() {
		first.Of[q.code] = decimal.RequireFromString(q.start)
	}
	return l.prices.Create(tx, first)
}

// Price returns the price of one asset in another, by their codes, or false if the two have none. It is
// what the market trades at.
func (l *Ledger) Price(tx *store.Tx, base, quote string) (decimal.Decimal, bool) {
	if !l.priced(base, quote) {
		return decimal.Zero, false
	}
	return l.Value(tx, base, quote)
}

// priceDigits is how many significant digits a price has. It is enough for the price of a
// metal in rand to be the product of its price in US dollars and of the exchange rate.
const priceDigits = 12

// Value returns what one unit of an asset is worth in another, by their codes. Unlike [Ledger.Price] it
// has an answer for all assets that are known, since a report states every value.
func (l *Ledger) Value(tx *store.Tx, base, quote string) (decimal.Decimal, bool) {
	if !l.Known(base) || !l.Known(quote) {
		return decimal.Zero, false
	}
	if base == quote {
		return decimal.NewFromInt(1), true
	}
	now, ok := l.prices.Get(tx, pricesName)
	if !ok {
		return decimal.Zero, false
	}
	b, perBase := l.dollars(now, base)
	q, perQuote := l.dollars(now, quote)
	value := b.Mul(perQuote).DivRound(perBase.Mul(q), 2*priceDigits)
	// The digits before the point are negative for a value below 0.1.
	before := int32(value.NumDigits()) + value.Exponent()
	return value.Round(priceDigits - before), true
}

// dollars returns what an asset is worth, as a fraction, so that nothing is rounded on the way: so many
// US dollars for so many units.
func (l *Ledger) dollars(now *prices, code string) (dollars, units decimal.Decimal) {
	one := decimal.NewFromInt(1)
	switch q := l.quoted[code]; {
	case code == usd:
		return one, one
	case q.inverse:
		return one, now.Of[code]
	default:
		dollars, units = l.dollars(now, q.in)
		return dollars.Mul(now.Of[code]), units
	}
}

// MovePrices takes every price a step on its walk. The steps depend on the seed and the time alone, so
// that a walk can be repeated.
func (l *Ledger) MovePrices(tx *store.Tx, seed, ticks uint64) error {
	now, ok := l.prices.Get(tx, pricesName)
	if !ok {
		return errors.New("ledger: there are no prices")
	}
	random := rand.New(rand.NewPCG(seed, ticks)) //nolint:gosec // a market, not a secret
	next := &prices{Of: make(map[string]decimal.Decimal, len(now.Of))}
	for _, q := range quotations() {
		if q.code == usd {
			next.Of[usd] = now.Of[usd]
			continue
		}
		step, low, high := q.class.walk()
		move := decimal.New(random.Int64N(2*step+1)-step, -4)
		before, start := now.Of[q.code], decimal.RequireFromString(q.start)
		after := before.Add(before.Mul(move)).Round(q.scale)
		if after.LessThan(start.Mul(low)) || after.GreaterThan(start.Mul(high)) {
			after = before
		}
		next.Of[q.code] = after
	}
	return l.prices.Update(tx, next)
}
