package ledger_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
)

// The accounts of the tests. The first two are open and have registered XLM and USDC.
const (
	ann    = "accounts/ann"
	bob    = "accounts/bob"
	closed = "accounts/closed"
)

// books is a ledger and its store. Ann has 100 XLM.
type books struct {
	*ledger.Ledger
	*store.Store
}

func open(t *testing.T) books {
	t.Helper()
	s := store.New(store.Config{Records: 20, Bytes: 1 << 20})
	b := books{ledger.New(s), s}
	_, err := s.Open()
	must(t, err)
	must(t, b.update(func(tx *store.Tx) error {
		must(t, b.OpenMarkets(tx))
		for _, account := range []string{ann, bob, closed, ledger.MarketMaker(ledger.XLM().Ledger)} {
			must(t, b.CreateWallet(tx, account))
			if account == closed {
				continue
			}
			must(t, b.UpdateWallet(tx, account, func(w *ledger.Wallet) error {
				w.Open = true
				w.Register(ledger.XLM(), ledger.USDC())
				return nil
			}))
		}
		return b.Mint(tx, ann, ledger.XLM(), amount("100"))
	}))
	return b
}

func (b books) update(change func(*store.Tx) error) error {
	_, err := store.Update(b.Store, func(tx *store.Tx) (struct{}, error) { return struct{}{}, change(tx) })
	return err
}

// balance returns what an account holds of a token, and what of it is reserved.
func (b books) balance(t *testing.T, account string, of ledger.Token) string {
	t.Helper()
	w, err := store.View(b.Store, func(tx *store.Tx) (*ledger.Wallet, error) { return b.Wallet(tx, account) })
	must(t, err)
	h := w.Holding(of)
	if h == nil {
		return "none"
	}
	return fmt.Sprintf("%s, %s reserved", h.Held, h.Reserved)
}

// audit checks the books, where nothing but the given amount of Ann's XLM is to be reserved.
func (b books) audit(reserved string) error {
	_, err := store.View(b.Store, func(tx *store.Tx) (struct{}, error) {
		return struct{}{}, b.Audit(tx, func(account string, of ledger.Token) decimal.Decimal {
			if account == ann && of == ledger.XLM() {
				return amount(reserved)
			}
			return decimal.Zero
		})
	})
	return err
}

func amount(text string) decimal.Decimal { return decimal.RequireFromString(text) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBalances(t *testing.T) {
	xlm, usdc, eurc := ledger.XLM(), ledger.USDC(), ledger.EURC()
	for _, test := range []struct {
		name string
		do   func(b books, tx *store.Tx) error
		// ann and bob are the balances of XLM after it.
		ann, bob string
		refused  codes.Code
	}{
		{"mint", func(b books, tx *store.Tx) error { return b.Mint(tx, bob, xlm, amount("5")) }, "100, 0 reserved", "5, 0 reserved", codes.OK},
		{"mint for an account that is not open", func(b books, tx *store.Tx) error { return b.Mint(tx, closed, xlm, amount("5")) }, "", "", codes.FailedPrecondition},
		{"mint what is not registered", func(b books, tx *store.Tx) error { return b.Mint(tx, bob, eurc, amount("5")) }, "", "", codes.FailedPrecondition},
		{"reserve all", func(b books, tx *store.Tx) error { return b.Reserve(tx, ann, xlm, amount("100")) }, "100, 100 reserved", "0, 0 reserved", codes.OK},
		{"reserve more than there is", func(b books, tx *store.Tx) error { return b.Reserve(tx, ann, xlm, amount("100.1")) }, "", "", codes.FailedPrecondition},
		{"reserve what is reserved", func(b books, tx *store.Tx) error {
			return errors.Join(b.Reserve(tx, ann, xlm, amount("60")), b.Reserve(tx, ann, xlm, amount("60")))
		}, "", "", codes.FailedPrecondition},
		{"release a part", func(b books, tx *store.Tx) error {
			return errors.Join(b.Reserve(tx, ann, xlm, amount("60")), b.Release(tx, ann, xlm, amount("20")))
		}, "100, 40 reserved", "0, 0 reserved", codes.OK},
		{"release more than is reserved", func(b books, tx *store.Tx) error { return b.Release(tx, ann, xlm, amount("1")) }, "", "", codes.Unknown},
		{"move", func(b books, tx *store.Tx) error { return b.Move(tx, ann, bob, xlm, amount("30")) }, "70, 0 reserved", "30, 0 reserved", codes.OK},
		{"move to itself", func(b books, tx *store.Tx) error { return b.Move(tx, ann, ann, xlm, amount("30")) }, "100, 0 reserved", "0, 0 reserved", codes.OK},
		{"move more than there is", func(b books, tx *store.Tx) error { return b.Move(tx, ann, bob, xlm, amount("101")) }, "", "", codes.Unknown},
		{"move what is reserved", func(b books, tx *store.Tx) error {
			return errors.Join(b.Reserve(tx, ann, xlm, amount("80")), b.Move(tx, ann, bob, xlm, amount("30")))
		}, "", "", codes.Unknown},
		{"move to an account that is not open", func(b books, tx *store.Tx) error { return b.Move(tx, ann, closed, xlm, amount("30")) }, "", "", codes.FailedPrecondition},
		{"move what is not held", func(b books, tx *store.Tx) error { return b.Move(tx, closed, bob, xlm, amount("30")) }, "", "", codes.Unknown},
		{"move from an account that is not there", func(b books, tx *store.Tx) error { return b.Move(tx, "accounts/none", bob, xlm, amount("30")) }, "", "", codes.Unknown},
		{"charge", func(b books, tx *store.Tx) error { return b.Charge(tx, ann, xlm, amount("1")) }, "99, 0 reserved", "0, 0 reserved", codes.OK},
		{"charge more than there is", func(b books, tx *store.Tx) error { return b.Charge(tx, ann, usdc, amount("1")) }, "", "", codes.Unknown},
		{"deregister a balance", func(b books, tx *store.Tx) error {
			return b.UpdateWallet(tx, ann, func(w *ledger.Wallet) error { return w.Deregister(usdc, xlm) })
		}, "", "", codes.FailedPrecondition},
		{"deregister nothing", func(b books, tx *store.Tx) error {
			return b.UpdateWallet(tx, bob, func(w *ledger.Wallet) error { return w.Deregister(usdc, xlm) })
		}, "100, 0 reserved", "none", codes.OK},
		{"register again", func(b books, tx *store.Tx) error {
			return b.UpdateWallet(tx, ann, func(w *ledger.Wallet) error { w.Register(xlm); return nil })
		}, "100, 0 reserved", "0, 0 reserved", codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := open(t)
			err := b.update(func(tx *store.Tx) error { return test.do(b, tx) })
			if got := code(err); got != test.refused {
				t.Fatalf("the code is %s, want %s: %v", got, test.refused, err)
			}
			if test.refused != codes.OK {
				test.ann, test.bob = "100, 0 reserved", "0, 0 reserved"
			}
			if got := b.balance(t, ann, xlm); got != test.ann {
				t.Errorf("Ann has %s, want %s", got, test.ann)
			}
			if got := b.balance(t, bob, xlm); got != test.bob {
				t.Errorf("Bob has %s, want %s", got, test.bob)
			}
			_, after, _ := strings.Cut(test.ann, ", ")
			reserved, _, _ := strings.Cut(after, " ")
			must(t, b.audit(reserved))
		})
	}
}

// code returns the code of the first status in an error.
func code(err error) codes.Code {
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) {
		return carrier.GRPCStatus().Code()
	}
	return status.Code(err)
}

func TestAuditFindsWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name, reserved, want string
		cheat                func(*ledger.Holding)
	}{
		{"more than was minted", "0", "100 were minted, 101 are held", func(h *ledger.Holding) { h.Held = amount("101") }},
		{"less than was minted", "0", "100 were minted, 99 are held", func(h *ledger.Holding) { h.Held = amount("99") }},
		{"a debt", "0", "would hold -1", func(h *ledger.Holding) { h.Held = amount("-1") }},
		{"reserved for nothing", "0", "has reserved 5", func(h *ledger.Holding) { h.Reserved = amount("5") }},
		{"an order without its reservation", "7", "require 7", func(*ledger.Holding) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := open(t)
			must(t, b.update(func(tx *store.Tx) error {
				return b.UpdateWallet(tx, ann, func(w *ledger.Wallet) error { test.cheat(w.Holding(ledger.XLM())); return nil })
			}))
			if err := b.audit(test.reserved); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the audit finds %v, want %q", err, test.want)
			}
		})
	}
}

func TestTrade(t *testing.T) {
	maker := ledger.MarketMaker(ledger.XLM().Ledger)
	for _, test := range []struct {
		name    string
		account string
		prepare func(*ledger.Wallet) error // of the market maker
		refused bool
	}{
		{name: "the market mints what it lacks", account: ann},
		{name: "the market cannot hold what is paid", account: ann, prepare: func(w *ledger.Wallet) error { return w.Deregister(ledger.XLM()) }, refused: true},
		{name: "the market cannot hold what is received", account: ann, prepare: func(w *ledger.Wallet) error { return w.Deregister(ledger.USDC()) }, refused: true},
		{name: "the account is not open", account: closed, refused: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := open(t)
			if test.prepare != nil {
				must(t, b.update(func(tx *store.Tx) error { return b.UpdateWallet(tx, maker, test.prepare) }))
			}
			err := b.update(func(tx *store.Tx) error {
				return b.Trade(tx, test.account, ledger.XLM(), amount("40"), ledger.USDC(), amount("10"))
			})
			if (err != nil) != test.refused {
				t.Fatalf("the trade returns %v", err)
			}
			must(t, b.audit("0"))
			if test.refused {
				return
			}
			if xlm, usdc := b.balance(t, ann, ledger.XLM()), b.balance(t, ann, ledger.USDC()); xlm != "60, 0 reserved" || usdc != "10, 0 reserved" {
				t.Errorf("Ann has %s XLM and %s USDC", xlm, usdc)
			}
			if got := b.balance(t, maker, ledger.XLM()); got != "40, 0 reserved" {
				t.Errorf("the market has %s XLM", got)
			}
		})
	}
}

func TestFeeOf(t *testing.T) {
	for _, test := range []struct{ amount, fee, vat string }{
		{"1000", "1", "0.15"},
		{"1", "0.001", "0.00015"},
		{"0.0000001", "0.0000001", "0.0000001"}, // each is rounded up to what the ledger can hold
	} {
		if fee, vat := ledger.FeeOf(ledger.XLM(), amount(test.amount)); !fee.Equal(amount(test.fee)) || !vat.Equal(amount(test.vat)) {
			t.Errorf("%s costs %s and %s, want %s and %s", test.amount, fee, vat, test.fee, test.vat)
		}
	}
}

// TestAFullHistoryRefusesNoMoney records more lines than there is room for.
func TestAFullHistoryRefusesNoMoney(t *testing.T) {
	b := open(t)
	for range 25 { // there is room for 20
		must(t, b.update(func(tx *store.Tx) error {
			must(t, b.Mint(tx, ann, ledger.XLM(), amount("1")))
			return b.Record(tx, ledger.Entry{Account: ann, At: time.Unix(0, 0), Kind: ledger.Movement, Token: ledger.XLM(), Amount: amount("1")})
		}))
	}
	lines, err := store.View(b.Store, func(tx *store.Tx) (balances []string, _ error) {
		for e := range b.History(tx, ann) {
			balances = append(balances, e.Balance.String())
		}
		return balances, nil
	})
	must(t, err)
	if len(lines) != 20 || lines[0] != "101" || lines[19] != "120" {
		t.Errorf("the lines have the balances %v", lines)
	}
	if got := b.balance(t, ann, ledger.XLM()); got != "125, 0 reserved" {
		t.Errorf("Ann has %s", got)
	}
}
