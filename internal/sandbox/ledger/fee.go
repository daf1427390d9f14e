package ledger

import "github.com/shopspring/decimal"

// FeeRate is the price of a transfer, as a part of its amount.
func FeeRate() decimal.Decimal { return decimal.New(1, -3) }

// VATRate is the tax on a fee, as a part of it.
func VATRate() decimal.Decimal { return decimal.New(15, -2) }

// FeeOf returns what a transfer costs, and the VAT on top.
func FeeOf(t Token, amount decimal.Decimal) (fee, vat decimal.Decimal) {
	fee = t.RoundUp(amount.Mul(FeeRate()))
	return fee, t.RoundUp(fee.Mul(VATRate()))
}
