package ledger

import (
	"fmt"
	"io"

	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// NewAddress returns an address from the random source, in the form of a ledger.
func NewAddress(ledger typev1.Ledger, random io.Reader) (string, error) {
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
		return "", fmt.Errorf("ledger: no form of an address on %s", ledger)
	}
	address := make([]byte, form.length)
	if _, err := io.ReadFull(random, address); err != nil {
		return "", fmt.Errorf("ledger: %w", err)
	}
	for i, b := range address {
		address[i] = form.alphabet[int(b)%len(form.alphabet)]
	}
	return form.prefix + string(address), nil
}
