package sandbox_test

import (
	"encoding/base32"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
	"golang.org/x/crypto/sha3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pricev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/market_data/price/v1"
	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// TestNativeAssetsNeedTheirIssuer names native assets with the right issuer and with none, wherever a
// request has a token.
func TestNativeAssetsNeedTheirIssuer(t *testing.T) {
	m := newStanding(t)
	ctx, group := m.as(t, "Broker Admin"), m.seeded["Broker Admin"].Group
	taps := tokentapv1.NewTokenTapServiceClient(m)
	_, err := taps.InitialiseTokenTaps(t.Context(), &tokentapv1.InitialiseTokenTapsRequest{})
	wantCode(t, err, codes.OK)
	account, err := accountv1.NewAccountServiceClient(m).CreateAccount(ctx, &accountv1.CreateAccountRequest{Account: &accountv1.Account{
		Owner: group, Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: "New"}})
	wantCode(t, err, codes.OK)
	_, err = accountv1.NewAccountServiceClient(m).OpenAccount(ctx, &accountv1.OpenAccountRequest{Name: account.GetName()})
	wantCode(t, err, codes.OK)
	m.tick(t, 4)

	for _, test := range []struct {
		name, field string
		call        func(*typev1.Token) error
	}{
		{"mint", "amount.token.issuer", func(token *typev1.Token) error {
			_, err := taps.MintToken(t.Context(), &tokentapv1.MintTokenRequest{Address: m.address(t, tradingAccount), Amount: amountOf(token, "1")})
			return err
		}},
		{"register", "tokens[0].issuer", func(token *typev1.Token) error {
			_, err := accountv1.NewAccountServiceClient(m).RegisterTokensToAccount(ctx, &accountv1.RegisterTokensToAccountRequest{Name: account.GetName(), Tokens: []*typev1.Token{token}})
			return err
		}},
		{"transfer", "transfer.amount.token.issuer", func(token *typev1.Token) error {
			_, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, treasuryAccount), amountOf(token, "1"))
			return err
		}},
		{"order", "limit_order.quantity.token.issuer", func(token *typev1.Token) error {
			_, err := m.place(t, &limitorderv1.LimitOrder{Side: buy, Quantity: amountOf(token, "1"), LimitPrice: amountOf(usdc(), "0.2")})
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantCode(t, test.call(xlm()), codes.OK)
			err := test.call(&typev1.Token{Code: "XLM", Ledger: typev1.Ledger_LEDGER_STELLAR})
			wantCode(t, err, codes.InvalidArgument)
			for _, detail := range status.Convert(err).Details() {
				violations := detail.(*errdetails.BadRequest).GetFieldViolations()
				if len(violations) != 1 || violations[0].GetField() != test.field || !strings.Contains(violations[0].GetDescription(), `"__LEDGER__"`) {
					t.Errorf("the violations are %v, want one of %s", violations, test.field)
				}
			}
		})
	}
}

// TestTokensOfTheOfficialExamples takes each token through what an account can do with it.
func TestTokensOfTheOfficialExamples(t *testing.T) {
	for _, test := range []struct {
		token, quote *typev1.Token
		limit        string
	}{
		{xlm(), usdc(), "1"},
		{eurc(), usdc(), "2"},
		{usdc(), mzar(), "36"},
	} {
		t.Run(test.token.GetCode(), func(t *testing.T) {
			m := newStanding(t)
			ctx, group := m.as(t, "Broker Admin"), m.seeded["Broker Admin"].Group
			accounts, taps := accountv1.NewAccountServiceClient(m), tokentapv1.NewTokenTapServiceClient(m)
			account, err := accounts.CreateAccount(ctx, &accountv1.CreateAccountRequest{Account: &accountv1.Account{Owner: group, Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: "New"}})
			wantCode(t, err, codes.OK)
			_, err = accounts.OpenAccount(ctx, &accountv1.OpenAccountRequest{Name: account.GetName()})
			wantCode(t, err, codes.OK)
			m.tick(t, 4)
			_, err = accounts.RegisterTokensToAccount(ctx, &accountv1.RegisterTokensToAccountRequest{Name: account.GetName(), Tokens: []*typev1.Token{test.token, test.quote}})
			wantCode(t, err, codes.OK)
			m.tick(t, 4)
			_, err = taps.InitialiseTokenTaps(t.Context(), &tokentapv1.InitialiseTokenTapsRequest{})
			wantCode(t, err, codes.OK)
			for _, token := range []*typev1.Token{test.token, test.quote} {
				_, err = taps.MintToken(t.Context(), &tokentapv1.MintTokenRequest{Address: account.GetLedgerId(), Amount: amountOf(token, "100")})
				wantCode(t, err, codes.OK)
			}
			order, err := m.place(t, &limitorderv1.LimitOrder{Account: account.GetName(), Side: buy, Quantity: amountOf(test.token, "1"), LimitPrice: amountOf(test.quote, test.limit)})
			wantCode(t, err, codes.OK)
			m.tick(t, 4)
			if got := m.live(t, order.GetName()).GetState(); got != complete {
				t.Errorf("the order is %s", got)
			}
			if held, _ := m.balance(t, account.GetName(), test.token); held != "101" {
				t.Errorf("it holds %s", held)
			}
			if price, err := m.price(t, test.token, test.quote); err != nil || !price.IsPositive() {
				t.Errorf("the price is %s, %v", price, err)
			}
		})
	}
}

// TestTapsList compares the tokens that can be minted with how requests must name them.
func TestTapsList(t *testing.T) {
	m := newStanding(t)
	taps := tokentapv1.NewTokenTapServiceClient(m)
	_, err := taps.InitialiseTokenTaps(t.Context(), &tokentapv1.InitialiseTokenTapsRequest{})
	wantCode(t, err, codes.OK)
	list, err := taps.ListTokenTaps(t.Context(), &tokentapv1.ListTokenTapsRequest{})
	wantCode(t, err, codes.OK)
	var got []string
	for _, token := range list.GetTokens() {
		got = append(got, strings.TrimPrefix(token.GetLedger().String(), "LEDGER_")+" "+token.GetCode()+" "+token.GetIssuer())
	}
	if diff := cmp.Diff([]string{
		"STELLAR XLM __LEDGER__", "STELLAR USDC " + usdcIssuer, "STELLAR EURC " + eurcIssuer, "STELLAR mZAR " + mzarIssuer,
		"ETHEREUM ETH __LEDGER__", "ETHEREUM USDC 0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
		"SA_STOCK_BROKERS ZAR __LEDGER__", "SA_STOCK_BROKERS STX40 __LEDGER__",
	}, got); diff != "" {
		t.Error(diff)
	}
}

// TestAddressesHaveTheirChecksum checks the addresses of accounts and the issuers of tokens as a client
// would.
func TestAddressesHaveTheirChecksum(t *testing.T) {
	m := newStanding(t)
	ctx, group := m.as(t, "Broker Admin"), m.seeded["Broker Admin"].Group
	created := func(on typev1.Ledger) string {
		account, err := accountv1.NewAccountServiceClient(m).CreateAccount(ctx, &accountv1.CreateAccountRequest{Account: &accountv1.Account{Owner: group, Ledger: on, DisplayName: "New"}})
		wantCode(t, err, codes.OK)
		return account.GetLedgerId()
	}
	for _, test := range []struct {
		name, address string
		valid         func(string) bool
	}{
		{"a seeded account on Stellar", m.address(t, tradingAccount), validStellar},
		{"a new account on Stellar", created(typev1.Ledger_LEDGER_STELLAR), validStellar},
		{"the issuer of mZAR", mzarIssuer, validStellar},
		{"a seeded account on Ethereum", m.address(t, ethereumAccount), validEthereum},
		{"a new account on Ethereum", created(typev1.Ledger_LEDGER_ETHEREUM), validEthereum},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !test.valid(test.address) {
				t.Errorf("%s is not valid", test.address)
			}
			swapped := test.address[:10] + test.address[11:12] + test.address[10:11] + test.address[12:]
			if swapped != test.address && test.valid(swapped) {
				t.Errorf("%s, with two characters swapped, is valid too", swapped)
			}
		})
	}
}

// validStellar divides the key and its checksum by the polynomial, bit by bit: nothing must be left.
func validStellar(address string) bool {
	content, err := base32.StdEncoding.DecodeString(address)
	if err != nil || len(content) != 35 || address[0] != 'G' {
		return false
	}
	content[33], content[34] = content[34], content[33]
	rest := uint32(0)
	for i := range 8 * len(content) {
		rest = rest<<1 | uint32(content[i/8]>>(7-i%8)&1)
		if rest&0x10000 != 0 {
			rest ^= 0x11021
		}
	}
	return rest == 0
}

// validEthereum compares the case of each letter with the hash of the address.
func validEthereum(address string) bool {
	lower := strings.ToLower(strings.TrimPrefix(address, "0x"))
	hash := sha3.NewLegacyKeccak256()
	hash.Write([]byte(lower))
	sum := hex.EncodeToString(hash.Sum(nil))
	want := "0x"
	for i := range lower {
		letter := lower[i : i+1]
		if sum[i] >= '8' {
			letter = strings.ToUpper(letter)
		}
		want += letter
	}
	return len(lower) == 40 && address == want
}

// TestPricedPairs asks for prices by code alone.
func TestPricedPairs(t *testing.T) {
	m := newStanding(t)
	const any, one, none = "a price", "1", "NOT_FOUND"
	cryptocurrencies := []string{"BTC", "ETH", "XLM", "USDC", "USDT", "SOL", "DOGE", "ADA", "DOT"}
	currencies := []string{"USD", "EUR", "GBP", "JPY", "ZAR", "CHF", "CAD", "AUD", "NZD", "CNY", "INR", "BRL"}
	metals := []string{"XAU", "XAG", "XPT", "XPD"}
	equities := []string{"STX40", "STXRAF", "STXWDM", "STXEMG", "STX500", "BRNDZ", "TITANS"}
	for _, test := range []struct {
		name        string
		base, quote []string
		want        string
	}{
		{"cryptocurrencies in fiat", cryptocurrencies, currencies, any},
		{"cryptocurrencies in each other", cryptocurrencies, cryptocurrencies, any},
		{"fiat in each other", currencies, currencies, any},
		{"metals in USD and ZAR", metals, []string{"USD", "ZAR"}, any},
		{"metals in other fiat", metals, []string{"EUR", "GBP", "JPY"}, none},
		{"metals in each other", metals, metals, none},
		{"metals in cryptocurrencies", metals, cryptocurrencies, none},
		{"equities in ZAR", equities, []string{"ZAR"}, any},
		{"equities in other fiat", equities, []string{"USD", "EUR"}, none},
		{"equities in each other", equities, equities, none},
		{"equities in metals", equities, metals, none},
		{"the stablecoins of the sandbox", []string{"EURC", "mZAR"}, []string{"USDC", "ZAR", "EUR"}, any},
		{"unknown tokens", []string{"NONE", "xlm", ""}, []string{"USD", "ZAR"}, none},
		{"in unknown tokens", []string{"XLM", "USD"}, []string{"NONE", ""}, none},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, base := range test.base {
				for _, quote := range test.quote {
					want, got := test.want, any
					if base == quote {
						want = one
					}
					switch price, err := m.price(t, &typev1.Token{Code: base}, &typev1.Token{Code: quote}); {
					case status.Code(err) == codes.NotFound:
						got = none
					case err != nil || !price.IsPositive():
						t.Errorf("%s in %s is %s, %v", base, quote, price, err)
					case base == quote:
						got = price.String()
					}
					if got != want {
						t.Errorf("%s in %s is %s, want %s", base, quote, got, want)
					}
				}
			}
		})
	}
}

// TestCrossRates checks that what has no direct source is the product of what it comes from.
func TestCrossRates(t *testing.T) {
	m := newStanding(t)
	m.tick(t, 40)
	for _, test := range []struct{ base, by, quote string }{
		{"XAG", "USD", "ZAR"},
		{"XAU", "USD", "ZAR"},
		{"BTC", "USD", "JPY"},
		{"ETH", "USD", "XLM"},
		{"EURC", "EUR", "USD"},
		{"GBP", "USD", "CHF"},
	} {
		t.Run(test.base+" in "+test.quote, func(t *testing.T) {
			of := func(base, quote string) decimal.Decimal {
				price, err := m.price(t, &typev1.Token{Code: base}, &typev1.Token{Code: quote})
				wantCode(t, err, codes.OK)
				return price
			}
			got, want := of(test.base, test.quote), of(test.base, test.by).Mul(of(test.by, test.quote))
			if got.Sub(want).Abs().GreaterThan(want.Mul(decimal.New(1, -11))) {
				t.Errorf("it is %s, want %s", got, want)
			}
		})
	}
}

// TestOrdersFillAtTheirPrice checks that the market trades at what the price service says.
func TestOrdersFillAtTheirPrice(t *testing.T) {
	m := newStanding(t)
	m.tick(t, 1) // the next move of the prices is later than the fill
	for _, test := range []struct {
		base, quote *typev1.Token
		limit       string
	}{{xlm(), usdc(), "1"}, {xlm(), mzar(), "20"}, {eurc(), usdc(), "3"}} {
		t.Run(test.base.GetCode()+" in "+test.quote.GetCode(), func(t *testing.T) {
			order, err := m.place(t, &limitorderv1.LimitOrder{Side: buy, Quantity: amountOf(test.base, "1"), LimitPrice: amountOf(test.quote, test.limit)})
			wantCode(t, err, codes.OK)
			m.tick(t, 2) // it is submitted, and then filled at the price of this tick
			price, err := pricev1.NewPriceServiceClient(m).GetCurrentPriceByTokenPair(m.as(t, "Broker Admin"), &pricev1.GetCurrentPriceByTokenPairRequest{BaseToken: test.base, QuoteToken: test.quote})
			wantCode(t, err, codes.OK)
			got := decimal.RequireFromString(m.live(t, order.GetName()).GetFillPrice().GetValue().GetValue())
			if want := decimal.RequireFromString(price.GetMidPrice().GetValue()).Round(10); !got.Equal(want) {
				t.Errorf("filled at %s, and the price is %s", got, want)
			}
		})
	}
}
