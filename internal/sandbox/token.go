package sandbox

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/shopspring/decimal"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	instrumentv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/studio/instrument/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// token names a token; it is the same one where all three are.
type token struct {
	Code, Issuer string
	Ledger       typev1.Ledger
}

// instrument is a token that the sandbox knows.
type instrument struct {
	token
	name string
	kind instrumentv1.InstrumentType
	unit instrumentv1.Unit
	// scale is how many decimals an amount of it can have on its ledger.
	scale int32
}

// pair is a market: base is bought and sold, quote pays.
type pair struct {
	base, quote token
	// start is the price that the walk begins with, at most scale decimals long.
	start string
	scale int32
	// depth is how much of base trades in one tick.
	depth string
}

const (
	stellarIssuer  = "GSANDB0XISSUER00000000000000000000000000000000000000000A"
	ethereumIssuer = "0x00000000000000000000000000000000005a4d42"
)

func xlm() token { return token{"XLM", "", typev1.Ledger_LEDGER_STELLAR} }
func usdc() token {
	return token{"USDC", stellarIssuer, typev1.Ledger_LEDGER_STELLAR}
}
func mzar() token {
	return token{"mZAR", stellarIssuer, typev1.Ledger_LEDGER_STELLAR}
}
func eth() token { return token{"ETH", "", typev1.Ledger_LEDGER_ETHEREUM} }
func ethUSDC() token {
	return token{"USDC", ethereumIssuer, typev1.Ledger_LEDGER_ETHEREUM}
}
func zar() token { return token{"ZAR", "", typev1.Ledger_LEDGER_SA_STOCK_BROKERS} }
func lhs() token { return token{"LHS", "", typev1.Ledger_LEDGER_SA_STOCK_BROKERS} }

// instruments are the tokens of the sandbox.
func instruments() []instrument {
	const (
		crypto = instrumentv1.InstrumentType_INSTRUMENT_TYPE_CRYPTO_CURRENCY
		stable = instrumentv1.InstrumentType_INSTRUMENT_TYPE_FIAT_CURRENCY_STABLECOIN
		fiat   = instrumentv1.InstrumentType_INSTRUMENT_TYPE_FIAT_CURRENCY
		share  = instrumentv1.InstrumentType_INSTRUMENT_TYPE_SHARE
	)
	return []instrument{
		{xlm(), "Lumen", crypto, instrumentv1.Unit_UNIT_TOKEN, 7},
		{usdc(), "US dollar stablecoin", stable, instrumentv1.Unit_UNIT_TOKEN, 7},
		{mzar(), "Rand stablecoin", stable, instrumentv1.Unit_UNIT_TOKEN, 7},
		{eth(), "Ether", crypto, instrumentv1.Unit_UNIT_TOKEN, 18},
		{ethUSDC(), "US dollar stablecoin", stable, instrumentv1.Unit_UNIT_TOKEN, 6},
		{zar(), "Rand", fiat, instrumentv1.Unit_UNIT_NULL, 2},
		{lhs(), "Lighthouse Shipping", share, instrumentv1.Unit_UNIT_SHARE, 4},
	}
}

// pairs are the markets of the sandbox.
func pairs() []pair {
	return []pair{
		{xlm(), usdc(), "0.25", 4, "500"},
		{xlm(), mzar(), "4.5", 4, "500"},
		{usdc(), mzar(), "18", 4, "500"},
		{eth(), ethUSDC(), "3200", 2, "1"},
		{lhs(), zar(), "120.5", 2, "50"},
	}
}

func (t token) String() string {
	ledger := strings.TrimPrefix(t.Ledger.String(), "LEDGER_")
	if t.Issuer == "" {
		return t.Code + " on " + ledger
	}
	return t.Code + " of " + t.Issuer + " on " + ledger
}

// key is the token's name in the store.
func (t token) key() string { return fmt.Sprintf("%s/%s/%d", t.Code, t.Issuer, t.Ledger) }

func (t token) message() *typev1.Token {
	return &typev1.Token{Code: t.Code, Issuer: t.Issuer, Ledger: t.Ledger}
}

func (t token) amount(value decimal.Decimal) *typev1.Amount {
	return &typev1.Amount{Token: t.message(), Value: &typev1.Decimal{Value: value.String()}}
}

func tokenOf(t *typev1.Token) token { return token{t.GetCode(), t.GetIssuer(), t.GetLedger()} }

// instrumentOf returns the instrument behind a token.
func instrumentOf(t token) (instrument, bool) {
	for _, known := range instruments() {
		if known.token == t {
			return known, true
		}
	}
	return instrument{}, false
}

// knownToken checks that the sandbox has the token. Field is where it stood.
func knownToken(field string, t token) (instrument, error) {
	known, ok := instrumentOf(t)
	if ok {
		return known, nil
	}
	names := make([]string, 0, len(instruments()))
	for _, one := range instruments() {
		names = append(names, one.String())
	}
	return instrument{}, invalid(field, fmt.Sprintf("must be one of the tokens of the sandbox (%s), not %s", strings.Join(names, ", "), t))
}

// plainDecimal is a decimal without sign or exponent, short enough that no sum
// or product of a few of them can be a burden.
var plainDecimal = regexp.MustCompile(`^[0-9]{1,24}(\.[0-9]{1,24})?$`)

// positive reads an amount that must be above zero, of a token that the sandbox
// has, with no more decimals than the ledger keeps. Money is never a float.
func positive(field string, amount *typev1.Amount) (token, decimal.Decimal, error) {
	known, err := knownToken(field+".token", tokenOf(amount.GetToken()))
	if err != nil {
		return token{}, decimal.Zero, err
	}
	text := amount.GetValue().GetValue()
	if !plainDecimal.MatchString(text) {
		return token{}, decimal.Zero, invalid(field+".value.value",
			fmt.Sprintf("must be a plain number with at most %d decimal places, such as 12.5, not %q", known.scale, text))
	}
	value, err := decimal.NewFromString(text)
	if err != nil {
		return token{}, decimal.Zero, invalid(field+".value.value", err.Error())
	}
	if !value.IsPositive() {
		return token{}, decimal.Zero, invalid(field+".value.value", "must be greater than 0")
	}
	if !value.Equal(value.Truncate(known.scale)) {
		return token{}, decimal.Zero, invalid(field+".value.value",
			fmt.Sprintf("must have at most %d decimals for %s, not %s", known.scale, known.Code, text))
	}
	return known.token, value, nil
}

// roundUp rounds to what the ledger of the token can hold, in favour of who
// receives it.
func (t token) roundUp(value decimal.Decimal) decimal.Decimal {
	known, _ := instrumentOf(t)
	return value.RoundCeil(known.scale)
}

func (t token) roundDown(value decimal.Decimal) decimal.Decimal {
	known, _ := instrumentOf(t)
	return value.RoundFloor(known.scale)
}

// valueOf reads an amount that the sandbox wrote itself.
func valueOf(amount *typev1.Amount) decimal.Decimal {
	value, err := decimal.NewFromString(amount.GetValue().GetValue())
	if err != nil {
		return decimal.Zero // not set
	}
	return value
}

// invalid returns an INVALID_ARGUMENT error with one field violation, for fields that satisfy the
// validation rules of the contract but not those of the sandbox.
func invalid(field, description string) error {
	st := status.New(codes.InvalidArgument, field+": "+description+".")
	detailed, err := st.WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}},
	})
	if err != nil {
		return st.Err()
	}
	return detailed.Err()
}

// precondition returns a FAILED_PRECONDITION error.
func precondition(format string, args ...any) error {
	return status.Errorf(codes.FailedPrecondition, format, args...)
}
