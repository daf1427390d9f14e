// Package ledger keeps the books of the sandbox: what accounts hold, what is reserved, the fees, the
// history of accounts, and the market.
//
// Every token that was minted is held by some account or was taken as a fee. Of what is held, a part
// may be reserved. Balances change by [Ledger.Mint], [Ledger.Reserve], [Ledger.Release],
// [Ledger.Move] and [Ledger.Charge] alone. Each refuses what would leave a balance below zero or a
// reservation above its balance. A refusal that a caller can bring about is a gRPC status. After an
// error the changes of the transaction must not be committed.
package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
)

// Ledger is a set of tables in a store.
type Ledger struct {
	wallets store.Table[*Wallet]
	totals  store.Table[*total]
	entries store.Table[*Entry]
	prices  store.Table[*prices]
	// quoted has the quotation of each code.
	quoted map[string]quotation
}

// New defines the tables of a ledger in a store that is not open yet.
func New(s *store.Store) *Ledger {
	l := &Ledger{
		wallets: store.NewTable(s, "wallets", store.TableOptions[*Wallet]{}),
		totals:  store.NewTable(s, "totals", store.TableOptions[*total]{}),
		entries: store.NewTable(s, "report entries", store.TableOptions[*Entry]{}),
		prices:  store.NewTable(s, "prices", store.TableOptions[*prices]{}),
		quoted:  make(map[string]quotation),
	}
	for _, q := range quotations() {
		l.quoted[q.code] = q
	}
	return l
}

// Wallet is what a ledger knows of an account.
type Wallet struct {
	// Account is the name of the account, and of the wallet.
	Account     string
	Open        bool
	Signatories []string
	// Holdings has one element for each token that is registered.
	Holdings []Holding
}

// Holding is a balance.
type Holding struct {
	Token Token
	// Held includes Reserved.
	Held, Reserved decimal.Decimal
}

func (w *Wallet) GetName() string   { return w.Account }
func (*Wallet) GetOwner() string    { return "" }
func (*Wallet) GetOwners() []string { return nil }

// Holding returns what the wallet has of a token, or nil if the token is not registered.
func (w *Wallet) Holding(t Token) *Holding {
	for i := range w.Holdings {
		if w.Holdings[i].Token == t {
			return &w.Holdings[i]
		}
	}
	return nil
}

// Available returns what is held and not reserved.
func (h *Holding) Available() decimal.Decimal { return h.Held.Sub(h.Reserved) }

// Register adds tokens. Those that are registered stay as they are.
func (w *Wallet) Register(tokens ...Token) {
	for _, t := range tokens {
		if w.Holding(t) == nil {
			w.Holdings = append(w.Holdings, Holding{Token: t})
		}
	}
}

// Deregister removes tokens. It returns an error if one of them has a balance.
func (w *Wallet) Deregister(tokens ...Token) error {
	for _, t := range tokens {
		if h := w.Holding(t); h != nil && !h.Held.IsZero() {
			return status.Errorf(codes.FailedPrecondition, "%s holds %s of %s. A token with a balance cannot be deregistered. Transfer the balance first.", w.Account, h.Held, t)
		}
	}
	w.Holdings = slices.DeleteFunc(w.Holdings, func(h Holding) bool { return slices.Contains(tokens, h.Token) })
	return nil
}

// total counts one token over all accounts.
type total struct {
	Token        Token
	Minted, Fees decimal.Decimal
}

func (t *total) GetName() string   { return t.Token.Key() }
func (*total) GetOwner() string    { return "" }
func (*total) GetOwners() []string { return nil }

// CreateWallet creates the wallet of an account that is not open.
func (l *Ledger) CreateWallet(tx *store.Tx, account string) error {
	return l.wallets.Create(tx, &Wallet{Account: account})
}

// Wallet returns the wallet of an account. It must not be changed.
func (l *Ledger) Wallet(tx *store.Tx, account string) (*Wallet, error) {
	w, ok := l.wallets.Get(tx, account)
	if !ok {
		return nil, fmt.Errorf("ledger: %s has no wallet", account)
	}
	return w, nil
}

// UpdateWallet replaces the wallet of an account by the copy that change has changed. Balances have
// methods of their own.
func (l *Ledger) UpdateWallet(tx *store.Tx, account string, change func(*Wallet) error) error {
	w, err := l.Wallet(tx, account)
	if err != nil {
		return err
	}
	changed := *w
	changed.Signatories, changed.Holdings = slices.Clone(w.Signatories), slices.Clone(w.Holdings)
	if err := change(&changed); err != nil {
		return err
	}
	return l.wallets.Update(tx, &changed)
}

// CanReceive returns FAILED_PRECONDITION if an account cannot hold a token.
func (l *Ledger) CanReceive(tx *store.Tx, account string, t Token) error {
	w, ok := l.wallets.Get(tx, account)
	switch {
	case !ok || !w.Open:
		return status.Errorf(codes.FailedPrecondition, "%s is not open on its ledger, so it cannot hold %s. Open it first with POST /v1/%s:open.", account, t, account)
	case w.Holding(t) == nil:
		return status.Errorf(codes.FailedPrecondition, "%s has not registered %s, so it cannot hold it. Register it first with POST /v1/%s:registerTokens.", account, t, account)
	}
	return nil
}

// Mint creates tokens.
func (l *Ledger) Mint(tx *store.Tx, account string, t Token, amount decimal.Decimal) error {
	if err := l.CanReceive(tx, account, t); err != nil {
		return err
	}
	if err := l.count(tx, t, amount, decimal.Zero); err != nil {
		return err
	}
	return l.book(tx, account, t, amount, decimal.Zero)
}

// Reserve sets tokens aside for an order or a transfer. It returns FAILED_PRECONDITION if too few
// are available.
func (l *Ledger) Reserve(tx *store.Tx, account string, t Token, amount decimal.Decimal) error {
	if err := l.CanReceive(tx, account, t); err != nil {
		return err
	}
	w, err := l.Wallet(tx, account)
	if err != nil {
		return err
	}
	if available := w.Holding(t).Available(); available.LessThan(amount) {
		return status.Errorf(codes.FailedPrecondition, "%s has %s %s available, but this call requires %s. Amounts reserved by open orders and transfers are not available.",
			account, available, t.Code, amount)
	}
	return l.book(tx, account, t, decimal.Zero, amount)
}

// Release gives back what was reserved.
func (l *Ledger) Release(tx *store.Tx, account string, t Token, amount decimal.Decimal) error {
	return l.book(tx, account, t, decimal.Zero, amount.Neg())
}

// Move pays tokens that are available from one account to another.
func (l *Ledger) Move(tx *store.Tx, from, to string, t Token, amount decimal.Decimal) error {
	if err := l.CanReceive(tx, to, t); err != nil {
		return err
	}
	if err := l.book(tx, from, t, amount.Neg(), decimal.Zero); err != nil {
		return err
	}
	return l.book(tx, to, t, amount, decimal.Zero)
}

// Charge takes a fee.
func (l *Ledger) Charge(tx *store.Tx, account string, t Token, amount decimal.Decimal) error {
	if err := l.count(tx, t, decimal.Zero, amount); err != nil {
		return err
	}
	return l.book(tx, account, t, amount.Neg(), decimal.Zero)
}

// book changes a balance and its reservation.
func (l *Ledger) book(tx *store.Tx, account string, t Token, held, reserved decimal.Decimal) error {
	return l.UpdateWallet(tx, account, func(w *Wallet) error {
		h := w.Holding(t)
		if h == nil {
			return fmt.Errorf("ledger: %s does not hold %s", account, t)
		}
		h.Held, h.Reserved = h.Held.Add(held), h.Reserved.Add(reserved)
		return h.check(account)
	})
}

func (h *Holding) check(account string) error {
	if h.Held.IsNegative() || h.Reserved.IsNegative() || h.Reserved.GreaterThan(h.Held) {
		return fmt.Errorf("ledger: %s would hold %s %s, of which %s are reserved", account, h.Held, h.Token, h.Reserved)
	}
	return nil
}

// count changes what was minted of a token and taken as fees.
func (l *Ledger) count(tx *store.Tx, t Token, minted, fees decimal.Decimal) error {
	changed := &total{Token: t, Minted: minted, Fees: fees}
	if known, ok := l.totals.Get(tx, t.Key()); ok {
		changed.Minted, changed.Fees = known.Minted.Add(minted), known.Fees.Add(fees)
	}
	return l.totals.Put(tx, changed)
}

// Audit returns an error unless money is conserved, token by token, and reserved returns for every
// account and token what is reserved.
func (l *Ledger) Audit(tx *store.Tx, reserved func(account string, t Token) decimal.Decimal) error {
	var wrong []error
	held := make(map[Token]decimal.Decimal)
	for w := range l.wallets.All(tx) {
		for _, h := range w.Holdings {
			held[h.Token] = held[h.Token].Add(h.Held)
			if err := h.check(w.Account); err != nil {
				wrong = append(wrong, err)
			}
			if want := reserved(w.Account, h.Token); !h.Reserved.Equal(want) {
				wrong = append(wrong, fmt.Errorf("ledger: %s has reserved %s %s, but its open orders and transfers require %s", w.Account, h.Reserved, h.Token, want))
			}
		}
	}
	for t := range l.totals.All(tx) {
		if !t.Minted.Equal(held[t.Token].Add(t.Fees)) {
			wrong = append(wrong, fmt.Errorf("ledger: %s: %s were minted, %s are held and %s were taken as fees", t.Token, t.Minted, held[t.Token], t.Fees))
		}
		delete(held, t.Token)
	}
	for t, amount := range held {
		if !amount.IsZero() {
			wrong = append(wrong, fmt.Errorf("ledger: %s: %s are held, but none were minted", t, amount))
		}
	}
	return errors.Join(wrong...)
}
