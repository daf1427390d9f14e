package sandbox

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/shopspring/decimal"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// knownToken checks that the sandbox has the token. Field is where it stood.
func knownToken(field string, t ledger.Token) (ledger.Instrument, error) {
	known, ok := ledger.InstrumentOf(t)
	if ok {
		return known, nil
	}
	if native := (ledger.Token{Code: t.Code, Issuer: ledger.NativeIssuer, Ledger: t.Ledger}); t.Issuer == "" {
		if _, ok := ledger.InstrumentOf(native); ok {
			return ledger.Instrument{}, invalid(field+".issuer", fmt.Sprintf("must be %q, which stands for the issuer of %s, the native asset of its ledger", ledger.NativeIssuer, native))
		}
	}
	var all, near []string // near are those on the same ledger
	for _, one := range ledger.Instruments() {
		all = append(all, one.String())
		if one.Ledger == t.Ledger {
			near = append(near, one.String())
		}
	}
	if near == nil {
		near = all
	}
	return ledger.Instrument{}, invalid(field, fmt.Sprintf("must be one of the tokens of the sandbox (%s), not %s", strings.Join(near, ", "), t))
}

// plainDecimal is a decimal without sign or exponent, short enough that no sum
// or product of a few of them can be a burden.
var plainDecimal = regexp.MustCompile(`^[0-9]{1,24}(\.[0-9]{1,24})?$`)

// positive reads an amount that must be above zero, of a token that the sandbox
// has, with no more decimals than the ledger keeps. Money is never a float.
func positive(field string, amount *typev1.Amount) (ledger.Token, decimal.Decimal, error) {
	known, err := knownToken(field+".token", ledger.TokenOf(amount.GetToken()))
	if err != nil {
		return ledger.Token{}, decimal.Zero, err
	}
	text := amount.GetValue().GetValue()
	if !plainDecimal.MatchString(text) {
		return ledger.Token{}, decimal.Zero, invalid(field+".value.value",
			fmt.Sprintf("must be a plain number with at most %d decimal places, such as 12.5, not %q", known.Scale, text))
	}
	value, err := decimal.NewFromString(text)
	if err != nil {
		return ledger.Token{}, decimal.Zero, invalid(field+".value.value", err.Error())
	}
	if !value.IsPositive() {
		return ledger.Token{}, decimal.Zero, invalid(field+".value.value", "must be greater than 0")
	}
	if !value.Equal(value.Truncate(known.Scale)) {
		return ledger.Token{}, decimal.Zero, invalid(field+".value.value",
			fmt.Sprintf("must have at most %d decimals for %s, not %s", known.Scale, known.Code, text))
	}
	return known.Token, value, nil
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
