package ledger

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	instrumentv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/studio/instrument/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// Token names a token. Two tokens are the same if all three fields are.
type Token struct {
	Code, Issuer string
	Ledger       typev1.Ledger
}

// Instrument is a token that the sandbox has.
type Instrument struct {
	Token
	Name string
	Type instrumentv1.InstrumentType
	Unit instrumentv1.Unit
	// Scale is the maximum number of decimals of an amount on the ledger.
	Scale int32
}

// NativeIssuer stands for the issuer of the native asset of a ledger, such as XLM on Stellar. The SDKs
// of Mesh have a constant for it.
const NativeIssuer = "__LEDGER__"

// The issuers of the other tokens. Those of USDC and EURC are the real ones, as in the examples of
// Mesh. mZAR has an issuer of the sandbox.
const (
	usdcIssuer         = "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN"
	eurcIssuer         = "GDHU6WRG4IEQXM5NZ4BMPKOXHW76MZM4Y2IEMFDVXBSDP6SJY4ITNPP2"
	mzarIssuer         = "GBC5UN72P27BVJVEJCEBVD5RO2JTXACFENBROGFIRB2CCLUK2VJEIAYE"
	ethereumUSDCIssuer = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
)

// The tokens of the sandbox.

func XLM() Token  { return Token{"XLM", NativeIssuer, typev1.Ledger_LEDGER_STELLAR} }
func USDC() Token { return Token{"USDC", usdcIssuer, typev1.Ledger_LEDGER_STELLAR} }
func EURC() Token { return Token{"EURC", eurcIssuer, typev1.Ledger_LEDGER_STELLAR} }
func MZAR() Token { return Token{"mZAR", mzarIssuer, typev1.Ledger_LEDGER_STELLAR} }
func ETH() Token  { return Token{"ETH", NativeIssuer, typev1.Ledger_LEDGER_ETHEREUM} }
func EthereumUSDC() Token {
	return Token{"USDC", ethereumUSDCIssuer, typev1.Ledger_LEDGER_ETHEREUM}
}
func ZAR() Token   { return Token{"ZAR", NativeIssuer, typev1.Ledger_LEDGER_SA_STOCK_BROKERS} }
func STX40() Token { return Token{"STX40", NativeIssuer, typev1.Ledger_LEDGER_SA_STOCK_BROKERS} }

// Instruments returns the tokens of the sandbox.
func Instruments() []Instrument {
	const (
		crypto = instrumentv1.InstrumentType_INSTRUMENT_TYPE_CRYPTO_CURRENCY
		stable = instrumentv1.InstrumentType_INSTRUMENT_TYPE_FIAT_CURRENCY_STABLECOIN
		fiat   = instrumentv1.InstrumentType_INSTRUMENT_TYPE_FIAT_CURRENCY
		etf    = instrumentv1.InstrumentType_INSTRUMENT_TYPE_ETF
	)
	return []Instrument{
		{XLM(), "Lumen", crypto, instrumentv1.Unit_UNIT_TOKEN, 7},
		{USDC(), "US dollar stablecoin", stable, instrumentv1.Unit_UNIT_TOKEN, 7},
		{EURC(), "Euro stablecoin", stable, instrumentv1.Unit_UNIT_TOKEN, 7},
		{MZAR(), "Rand stablecoin", stable, instrumentv1.Unit_UNIT_TOKEN, 7},
		{ETH(), "Ether", crypto, instrumentv1.Unit_UNIT_TOKEN, 18},
		{EthereumUSDC(), "US dollar stablecoin", stable, instrumentv1.Unit_UNIT_TOKEN, 6},
		{ZAR(), "Rand", fiat, instrumentv1.Unit_UNIT_NULL, 2},
		{STX40(), "Satrix 40", etf, instrumentv1.Unit_UNIT_SHARE, 2},
	}
}

func (t Token) String() string {
	ledger := strings.TrimPrefix(t.Ledger.String(), "LEDGER_")
	if t.Issuer == NativeIssuer || t.Issuer == "" {
		return t.Code + " on " + ledger
	}
	return t.Code + " of " + t.Issuer + " on " + ledger
}

// Key is the token's name in the store.
func (t Token) Key() string { return fmt.Sprintf("%s/%s/%d", t.Code, t.Issuer, t.Ledger) }

// Message returns the token as the contract writes it.
func (t Token) Message() *typev1.Token {
	return &typev1.Token{Code: t.Code, Issuer: t.Issuer, Ledger: t.Ledger}
}

// Amount returns an amount of the token as the contract writes it.
func (t Token) Amount(value decimal.Decimal) *typev1.Amount {
	return &typev1.Amount{Token: t.Message(), Value: &typev1.Decimal{Value: value.String()}}
}

// TokenOf reads a token of the contract.
func TokenOf(t *typev1.Token) Token { return Token{t.GetCode(), t.GetIssuer(), t.GetLedger()} }

// InstrumentOf returns the instrument behind a token.
func InstrumentOf(t Token) (Instrument, bool) {
	for _, known := range Instruments() {
		if known.Token == t {
			return known, true
		}
	}
	return Instrument{}, false
}

// RoundUp rounds to what the ledger of the token can hold, in favour of who receives it.
func (t Token) RoundUp(value decimal.Decimal) decimal.Decimal {
	known, _ := InstrumentOf(t)
	return value.RoundCeil(known.Scale)
}

// RoundDown rounds to what the ledger of the token can hold, in favour of who pays it.
func (t Token) RoundDown(value decimal.Decimal) decimal.Decimal {
	known, _ := InstrumentOf(t)
	return value.RoundFloor(known.Scale)
}

// ValueOf reads an amount that the sandbox wrote itself.
func ValueOf(amount *typev1.Amount) decimal.Decimal {
	value, err := decimal.NewFromString(amount.GetValue().GetValue())
	if err != nil {
		return decimal.Zero // not set
	}
	return value
}
