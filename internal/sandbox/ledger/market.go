package ledger

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// Pair is a market: Base is bought and sold, Quote pays. It trades at [Ledger.Price].
type Pair struct {
	Base, Quote Token
	// depth is how much of Base trades in one tick.
	depth string
}

// Pairs returns the markets of the sandbox.
func Pairs() []Pair {
	return []Pair{
		{XLM(), USDC(), "500"},
		{XLM(), EURC(), "500"},
		{XLM(), MZAR(), "500"},
		{USDC(), MZAR(), "500"},
		{EURC(), USDC(), "500"},
		{EURC(), MZAR(), "500"},
		{ETH(), EthereumUSDC(), "1"},
		{STX40(), ZAR(), "50"},
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

// String returns the codes of a pair, such as XLM/USDC.
func (p Pair) String() string { return p.Base.Code + "/" + p.Quote.Code }

// Depth is how much of the base token trades in one tick.
func (p Pair) Depth() decimal.Decimal { return decimal.RequireFromString(p.depth) }

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
