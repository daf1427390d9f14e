package sandbox

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// The ledgers of the sandbox. Every token that was minted is held by some
// wallet or was taken as a fee; of what is held, a part may be reserved.
// Nothing else changes a balance than the five verbs of this file: mint,
// reserve, release, move and charge.

// wallet is what a ledger knows of an account. It has the account's name.
type wallet struct {
	Account     string
	Open        bool
	Signatories []string
	// Holdings has one entry for each token that is registered.
	Holdings []holding
}

type holding struct {
	Token token
	// Held includes Reserved.
	Held, Reserved decimal.Decimal
}

func (w *wallet) GetName() string   { return w.Account }
func (*wallet) GetOwner() string    { return "" }
func (*wallet) GetOwners() []string { return nil }

// holding returns what the wallet has of a token, nil if it is not registered.
func (w *wallet) holding(t token) *holding {
	for i := range w.Holdings {
		if w.Holdings[i].Token == t {
			return &w.Holdings[i]
		}
	}
	return nil
}

func (h holding) available() decimal.Decimal { return h.Held.Sub(h.Reserved) }

// total counts one token over the whole ledger.
type total struct {
	Token        token
	Minted, Fees decimal.Decimal
}

func (t *total) GetName() string   { return t.Token.key() }
func (*total) GetOwner() string    { return "" }
func (*total) GetOwners() []string { return nil }

func (s *store) total(t token) *total {
	if known, ok := s.totals.byName[t.key()]; ok {
		return known
	}
	return &total{Token: t}
}

// canReceive checks that an account can be given a token.
func (s *store) canReceive(account string, t token) error {
	w := s.wallets.byName[account]
	switch {
	case w == nil || !w.Open:
		return precondition("%s is not open on its ledger, so it cannot hold %s. Open it first with POST /v1/%s:open.", account, t, account)
	case w.holding(t) == nil:
		return precondition("%s has not registered %s, so it cannot hold it. Register it first with POST /v1/%s:registerTokens.", account, t, account)
	}
	return nil
}

// mint makes new tokens.
func (s *store) mint(account string, t token, amount decimal.Decimal) error {
	if err := s.canReceive(account, t); err != nil {
		return err
	}
	all := s.total(t)
	all.Minted = all.Minted.Add(amount)
	w := s.wallets.byName[account]
	h := w.holding(t)
	h.Held = h.Held.Add(amount)
	return errors.Join(s.totals.put(all), s.wallets.put(w))
}

// reserve sets tokens aside, so that they can be used for one thing only.
func (s *store) reserve(account string, t token, amount decimal.Decimal) error {
	if err := s.canReceive(account, t); err != nil {
		return err
	}
	w := s.wallets.byName[account]
	h := w.holding(t)
	if h.available().LessThan(amount) {
		return precondition("%s has %s %s available, but this call requires %s. Amounts reserved by open orders and transfers are not available.",
			account, h.available(), t.Code, amount)
	}
	h.Reserved = h.Reserved.Add(amount)
	return s.wallets.put(w)
}

// release gives back what was reserved.
func (s *store) release(account string, t token, amount decimal.Decimal) error {
	w := s.wallets.byName[account]
	h := w.holding(t)
	h.Reserved = h.Reserved.Sub(amount)
	return s.wallets.put(w)
}

// move pays tokens that are available from one account to another.
func (s *store) move(from, to string, t token, amount decimal.Decimal) error {
	if err := s.canReceive(to, t); err != nil {
		return err
	}
	payer, payee := s.wallets.byName[from], s.wallets.byName[to]
	h := payer.holding(t)
	h.Held = h.Held.Sub(amount)
	h = payee.holding(t)
	h.Held = h.Held.Add(amount)
	return errors.Join(s.wallets.put(payer), s.wallets.put(payee))
}

// charge takes a fee.
func (s *store) charge(account string, t token, amount decimal.Decimal) error {
	w, all := s.wallets.byName[account], s.total(t)
	h := w.holding(t)
	h.Held = h.Held.Sub(amount)
	all.Fees = all.Fees.Add(amount)
	return errors.Join(s.wallets.put(w), s.totals.put(all))
}

// transaction is a ledger transaction: what carries a change of a wallet out.
type transaction struct {
	Name, Owner string
	Owners      []string
	State       transactionv1.TransactionState
	Effect      effect
}

func (t *transaction) GetName() string     { return t.Name }
func (t *transaction) GetOwner() string    { return t.Owner }
func (t *transaction) GetOwners() []string { return t.Owners }

// effect is what a transaction does when it succeeds.
type effect struct {
	Kind    effectKind
	Account string
	// Users are those to add or remove as signatories.
	Users []string
	// Tokens are those to register or deregister.
	Tokens []token
	// Transfer is the name of the transfer to carry out.
	Transfer string
}

type effectKind string

const (
	effectOpen              effectKind = "open"
	effectAddSignatories    effectKind = "add signatories"
	effectRemoveSignatories effectKind = "remove signatories"
	effectRegister          effectKind = "register tokens"
	effectDeregister        effectKind = "deregister tokens"
	effectTransfer          effectKind = "transfer"
)

// nextTransactionState is the way of a transaction, a step each tick. The last
// step ends in FAILED where the ledger refuses the effect. INDETERMINATE, which
// says that the outcome is not known, does not happen: the sandbox is its own
// ledger.
func nextTransactionState(state transactionv1.TransactionState) (next transactionv1.TransactionState, more bool) {
	switch state {
	case transactionv1.TransactionState_TRANSACTION_STATE_DRAFT:
		return transactionv1.TransactionState_TRANSACTION_STATE_SIGNING_IN_PROGRESS, true
	case transactionv1.TransactionState_TRANSACTION_STATE_SIGNING_IN_PROGRESS:
		return transactionv1.TransactionState_TRANSACTION_STATE_PENDING, true
	case transactionv1.TransactionState_TRANSACTION_STATE_PENDING:
		return transactionv1.TransactionState_TRANSACTION_STATE_SUBMISSION_IN_PROGRESS, true
	case transactionv1.TransactionState_TRANSACTION_STATE_SUBMISSION_IN_PROGRESS:
		return transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL, true
	default:
		return state, false
	}
}

// submit starts a transaction, in DRAFT, and returns its name.
func (s *store) submit(owner string, e effect) (string, error) {
	name, err := s.name("transactions")
	if err != nil {
		return "", err
	}
	if err := s.transactions.put(&transaction{
		Name: name, Owner: owner, Owners: s.path(owner),
		State: transactionv1.TransactionState_TRANSACTION_STATE_DRAFT, Effect: e,
	}); err != nil {
		return "", err
	}
	s.active = append(s.active, name)
	return name, nil
}

// underWay reports whether a transaction of this kind has yet to end for the
// account.
func (s *store) underWay(account string, kind effectKind) bool {
	return slices.ContainsFunc(s.active, func(name string) bool {
		t, ok := s.transactions.byName[name]
		return ok && t.Effect.Kind == kind && t.Effect.Account == account
	})
}

// advance takes one transaction or order a step on and reports whether there
// are more to come.
func (s *store) advance(name string) bool {
	if t, ok := s.transactions.byName[name]; ok {
		return s.advanceTransaction(t)
	}
	if order, ok := s.orders.byName[name]; ok {
		return s.advanceOrder(order)
	}
	return false
}

func (s *store) advanceTransaction(t *transaction) bool {
	next, more := nextTransactionState(t.State)
	if !more {
		return false
	}
	changed := *t
	changed.State = next
	if next == transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL {
		more = false
		err := s.apply(t.Effect)
		if err != nil {
			changed.State = transactionv1.TransactionState_TRANSACTION_STATE_FAILED
		}
		if t.Effect.Kind == effectTransfer {
			s.settle(t.Effect.Transfer, err)
		}
	}
	must(s.transactions.put(&changed))
	s.watchers.notify(&changed)
	return more
}

// apply does what a transaction is for. An error is the ledger's refusal: what
// held when the transaction was made no longer does.
func (s *store) apply(e effect) error {
	w := s.wallets.byName[e.Account]
	switch e.Kind {
	case effectOpen:
		w.Open = true
		w.Signatories = e.Users
	case effectAddSignatories:
		for _, user := range e.Users {
			if !slices.Contains(w.Signatories, user) {
				w.Signatories = append(slices.Clone(w.Signatories), user)
			}
		}
	case effectRemoveSignatories:
		w.Signatories = slices.DeleteFunc(slices.Clone(w.Signatories), func(user string) bool { return slices.Contains(e.Users, user) })
	case effectRegister:
		for _, t := range e.Tokens {
			if w.holding(t) == nil {
				w.Holdings = append(w.Holdings, holding{Token: t})
			}
		}
	case effectDeregister:
		for _, t := range e.Tokens {
			if h := w.holding(t); h != nil && !h.Held.IsZero() {
				return precondition("%s has a balance of %s.", e.Account, t)
			}
		}
		w.Holdings = slices.DeleteFunc(w.Holdings, func(h holding) bool { return slices.Contains(e.Tokens, h.Token) })
	case effectTransfer:
		return s.carryOut(s.transfers.byName[e.Transfer])
	}
	return s.wallets.put(w)
}

// must is for what cannot fail: replacing a record that is there.
func must(err error) {
	if err != nil {
		panic("sandbox: " + err.Error())
	}
}

// audit checks that money is conserved, token by token.
func (s *store) audit() error {
	var wrong []error
	held := make(map[token]decimal.Decimal)
	for _, name := range s.wallets.order {
		for _, h := range s.wallets.byName[name].Holdings {
			held[h.Token] = held[h.Token].Add(h.Held)
			if h.Held.IsNegative() || h.Reserved.IsNegative() || h.Reserved.GreaterThan(h.Held) {
				wrong = append(wrong, fmt.Errorf("%s: %s of %s held, %s reserved", name, h.Held, h.Token, h.Reserved))
			}
		}
	}
	for _, known := range instruments() {
		if t := s.total(known.token); !t.Minted.Equal(held[known.token].Add(t.Fees)) {
			wrong = append(wrong, fmt.Errorf("%s: %s minted, %s held, %s taken as fees", known.token, t.Minted, held[known.token], t.Fees))
		}
	}
	return errors.Join(wrong...)
}

// entry is a line of an account's history, which reports are made of.
type entry struct {
	Name, Account string
	At            time.Time
	Kind          entryKind
	// Reference is the transfer, order or transaction behind the line.
	Reference, Description string
	Token                  token
	// Amount is negative where it left the account; Balance is what was held
	// after it.
	Amount, Balance decimal.Decimal
	// Quote is what Price and Cost are in; set on trades.
	Quote       token
	Price, Cost decimal.Decimal
}

type entryKind string

const (
	entryMovement entryKind = "movement"
	entryTrade    entryKind = "trade"
	entryFee      entryKind = "fee"
	entryIncome   entryKind = "income"
)

func (e *entry) GetName() string   { return e.Name }
func (e *entry) GetOwner() string  { return e.Account }
func (*entry) GetOwners() []string { return nil }

// record writes a line into an account's history, with the balance as it is.
// A full history takes no more lines: it is no reason to refuse the money.
func (s *store) record(e entry) {
	e.Name = fmt.Sprintf("entries/%012d", len(s.entries.order)+1)
	e.At = s.now()
	if h := s.wallets.byName[e.Account].holding(e.Token); h != nil {
		e.Balance = h.Held
	}
	if s.entries.room() == nil {
		must(s.entries.put(&e))
	}
}

// addressOf makes an address, out of what random gives, in the form that the
// ledger's own have.
func addressOf(ledger typev1.Ledger, random io.Reader) (string, error) {
	const (
		base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
		hex    = "0123456789abcdef"
		base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
		bech32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
		digits = "0123456789"
	)
	form := map[typev1.Ledger]struct {
		prefix, alphabet string
		length           int
	}{
		typev1.Ledger_LEDGER_STELLAR:          {"G", base32, 55},
		typev1.Ledger_LEDGER_BITCOIN:          {"bc1q", bech32, 38},
		typev1.Ledger_LEDGER_LITECOIN:         {"ltc1q", bech32, 38},
		typev1.Ledger_LEDGER_ETHEREUM:         {"0x", hex, 40},
		typev1.Ledger_LEDGER_XRP:              {"r", base58, 33},
		typev1.Ledger_LEDGER_SA_STOCK_BROKERS: {"", digits, 10},
		typev1.Ledger_LEDGER_SOLANA:           {"", base58, 44},
		typev1.Ledger_LEDGER_NULL:             {"null-", digits, 16},
	}[ledger]
	if form.length == 0 {
		return "", fmt.Errorf("sandbox: no address of %s", ledger)
	}
	address := make([]byte, form.length)
	if _, err := io.ReadFull(random, address); err != nil {
		return "", fmt.Errorf("sandbox: %w", err)
	}
	for i, b := range address {
		address[i] = form.alphabet[int(b)%len(form.alphabet)]
	}
	return form.prefix + string(address), nil
}
