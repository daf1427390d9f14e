package ledger

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	"github.com/shopspring/decimal"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// Pair is a market: Base is bought and sold, Quote pays.
type Pair struct {
	Base, Quote Token
	// start is the price that the walk begins with, at most scale decimals long.
	start string
	scale int32
	// depth is how much of Base trades in one tick.
	depth string
}

// Pairs returns the markets of the sandbox.
func Pairs() []Pair {
	return []Pair{
		{XLM(), USDC(), "0.25", 4, "500"},
		{XLM(), MZAR(), "4.5", 4, "500"},
		{USDC(), MZAR(), "18", 4, "500"},
		{ETH(), EthereumUSDC(), "3200", 2, "1"},
		{LHS(), ZAR(), "120.5", 2, "50"},
	}
}

// PairOf returns the market of two tokens.
func PairOf(base, quote Token) (Pair, bool) {
	for _, p := range Pairs() {
		if p.Base == base && p.Quote == quote {
			return p, true
		}
	}
	return Pair{}, false
}

// Start is the price that a market begins with.
func (p Pair) Start() decimal.Decimal { return decimal.RequireFromString(p.start) }

// Depth is how much of the base token trades in one tick.
func (p Pair) Depth() decimal.Decimal { return decimal.RequireFromString(p.depth) }

func (p Pair) key() string { return p.Base.Key() + " in " + p.Quote.Key() }

// market is a pair and its present price.
type market struct {
	Name  string
	Price decimal.Decimal
}

func (m *market) GetName() string   { return m.Name }
func (*market) GetOwner() string    { return "" }
func (*market) GetOwners() []string { return nil }

// OpenMarkets sets the first price of every pair.
func (l *Ledger) OpenMarkets(tx *store.Tx) error {
	for _, p := range Pairs() {
		if err := l.markets.Create(tx, &market{Name: p.key(), Price: p.Start()}); err != nil {
			return err
		}
	}
	return nil
}

// invertedScale is how many decimals a price has that was turned around.
const invertedScale = 10

// Price returns the price of one token in another, if the two are a pair, either way around.
func (l *Ledger) Price(tx *store.Tx, base, quote Token) (decimal.Decimal, bool) {
	if p, ok := PairOf(base, quote); ok {
		m, open := l.markets.Get(tx, p.key())
		if !open {
			return decimal.Zero, false
		}
		return m.Price, true
	}
	if _, ok := PairOf(quote, base); !ok {
		return decimal.Zero, false
	}
	price, ok := l.Price(tx, quote, base)
	if !ok {
		return decimal.Zero, false
	}
	return decimal.NewFromInt(1).DivRound(price, invertedScale), true
}

// maxStep is how far a price walks at a time, in ten-thousandths of itself.
const maxStep = 20

// MovePrices takes every price a step on its walk. A step depends on the seed, the pair and the
// time alone, so that a walk can be repeated. A price stays between half and double of its start.
func (l *Ledger) MovePrices(tx *store.Tx, seed, ticks uint64) error {
	for _, p := range Pairs() {
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(p.key()))
		_, _ = hash.Write(binary.BigEndian.AppendUint64(nil, ticks))
		random := rand.New(rand.NewPCG(seed, hash.Sum64())) //nolint:gosec // a market, not a secret
		step := decimal.New(int64(random.IntN(2*maxStep+1)-maxStep), -4)

		now, ok := l.markets.Get(tx, p.key())
		if !ok {
			continue // not open yet
		}
		price := now.Price.Add(now.Price.Mul(step)).Round(p.scale)
		if half, double := p.Start().Div(decimal.NewFromInt(2)), p.Start().Mul(decimal.NewFromInt(2)); price.LessThan(half) || price.GreaterThan(double) {
			continue
		}
		if err := l.markets.Update(tx, &market{Name: now.Name, Price: price}); err != nil {
			return err
		}
	}
	return nil
}

// MarketMaker returns the account on the other side of every trade on a ledger.
func MarketMaker(ledger typev1.Ledger) string { return fmt.Sprintf("accounts/%024dMM", ledger) }

// CanTrade returns FAILED_PRECONDITION if an account or the market maker cannot hold both tokens of a
// pair: one pays and the other is received.
func (l *Ledger) CanTrade(tx *store.Tx, account string, base, quote Token) error {
	for _, party := range []string{account, MarketMaker(base.Ledger)} {
		for _, t := range []Token{base, quote} {
			if err := l.CanReceive(tx, party, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// Trade exchanges tokens with the market: an account pays and receives. The market maker mints what
// it lacks.
func (l *Ledger) Trade(tx *store.Tx, account string, paid Token, payment decimal.Decimal, received Token, receipt decimal.Decimal) error {
	if err := l.CanTrade(tx, account, paid, received); err != nil {
		return err
	}
	maker := MarketMaker(paid.Ledger)
	wallet, err := l.Wallet(tx, maker)
	if err != nil {
		return err
	}
	if lacks := receipt.Sub(wallet.Holding(received).Available()); lacks.IsPositive() {
		if err := l.Mint(tx, maker, received, lacks); err != nil {
			return err
		}
	}
	if err := l.Move(tx, account, maker, paid, payment); err != nil {
		return err
	}
	return l.Move(tx, maker, account, received, receipt)
}
