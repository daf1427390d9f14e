package ledger

import (
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"

	"golang.org/x/crypto/sha3"

	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// NewAddress returns an address from the random source, in the form of a ledger. Addresses on Stellar
// and Ethereum have a valid checksum, since clients check it.
func NewAddress(ledger typev1.Ledger, random io.Reader) (string, error) {
	const (
		base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
		bech32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
		digits = "0123456789"
	)
	switch ledger {
	case typev1.Ledger_LEDGER_STELLAR:
		var key [32]byte
		if _, err := io.ReadFull(random, key[:]); err != nil {
			return "", fmt.Errorf("ledger: %w", err)
		}
		return stellarAddress(key), nil
	case typev1.Ledger_LEDGER_ETHEREUM:
		var account [20]byte
		if _, err := io.ReadFull(random, account[:]); err != nil {
			return "", fmt.Errorf("ledger: %w", err)
		}
		return ethereumAddress(account), nil
	}
	form := map[typev1.Ledger]struct {
		prefix, alphabet string
		length           int
	}{
		typev1.Ledger_LEDGER_BITCOIN:          {"bc1q", bech32, 38},
		typev1.Ledger_LEDGER_LITECOIN:         {"ltc1q", bech32, 38},
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

// stellarAddress writes the public key of an account as a StrKey (SEP-23): a version byte, the key and
// a CRC-16, in base32. The module of the Stellar SDK would be a dependency for these few lines.
func stellarAddress(key [32]byte) string {
	const accountID = 6 << 3 // the version byte that makes an address start with G
	content := append([]byte{accountID}, key[:]...)
	content = binary.LittleEndian.AppendUint16(content, crc16(content))
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(content)
}

// crc16 is CRC-16/XMODEM: the polynomial 0x1021, with an initial value of 0.
func crc16(content []byte) (sum uint16) {
	for _, b := range content {
		sum ^= uint16(b) << 8
		for range 8 {
			carry := sum&0x8000 != 0
			sum <<= 1
			if carry {
				sum ^= 0x1021
			}
		}
	}
	return sum
}

// ethereumAddress writes an address with its checksum (ERC-55): the case of a letter is a bit of the
// Keccak-256 of the address in lower case.
func ethereumAddress(account [20]byte) string {
	address := hex.AppendEncode(nil, account[:])
	hash := sha3.NewLegacyKeccak256()
	hash.Write(address)
	for i, nibble := range hex.AppendEncode(nil, hash.Sum(nil))[:len(address)] {
		if address[i] >= 'a' && nibble >= '8' {
			address[i] -= 'a' - 'A'
		}
	}
	return "0x" + string(address)
}
