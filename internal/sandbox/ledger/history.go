package ledger

import (
	"fmt"
	"iter"
	"time"

	"github.com/shopspring/decimal"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
)

// Entry is a line in the history of an account, which reports are made of.
type Entry struct {
	// Name is set by [Ledger.Record].
	Name    string
	Account string
	At      time.Time
	Kind    EntryKind
	// Reference is the transfer or order behind the line.
	Reference, Description string
	Token                  Token
	// Amount is negative if it left the account. Balance is what was held after it. It is set by
	// [Ledger.Record].
	Amount, Balance decimal.Decimal
	// Quote is the token of Price and Cost, which are set for trades.
	Quote       Token
	Price, Cost decimal.Decimal
}

// EntryKind is the kind of an [Entry].
type EntryKind string

// The kinds of entries.
const (
	Movement EntryKind = "movement"
	Trade    EntryKind = "trade"
	Fee      EntryKind = "fee"
	Income   EntryKind = "income"
)

func (e *Entry) GetName() string   { return e.Name }
func (e *Entry) GetOwner() string  { return e.Account }
func (*Entry) GetOwners() []string { return nil }

// Record adds a line to the history of an account, with its present balance. A full history takes
// no more lines: that is no reason to refuse the money.
func (l *Ledger) Record(tx *store.Tx, e Entry) error {
	if l.entries.Full(tx) {
		return nil
	}
	w, err := l.Wallet(tx, e.Account)
	if err != nil {
		return err
	}
	if h := w.Holding(e.Token); h != nil {
		e.Balance = h.Held
	}
	e.Name = fmt.Sprintf("entries/%012d", l.entries.Count(tx)+1)
	return l.entries.Create(tx, &e)
}

// History returns the history of an account, oldest first.
func (l *Ledger) History(tx *store.Tx, account string) iter.Seq[*Entry] {
	return l.entries.Owned(tx, account)
}
