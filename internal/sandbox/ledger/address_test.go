package ledger

import (
	"encoding/hex"
	"math/rand/v2"
	"regexp"
	"testing"

	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// TestStellarAddress compares addresses with examples of SEP-23 and with the issuers of public tokens.
func TestStellarAddress(t *testing.T) {
	for _, test := range []struct{ name, key, want string }{
		{"the example of SEP-23", "3f0c34bf93ad0d9971d04ccc90f705511c838aad9734a4a2fb0d7a03fc7fe89a", "GA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJVSGZ"},
		{"a key of zeros", "0000000000000000000000000000000000000000000000000000000000000000", "GAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAWHF"},
		{"the issuer of USDC", "3b9911380efe988ba0a8900eb1cfe44f366f7dbe946bed077240f7f624df15c5", usdcIssuer},
		{"the issuer of EURC", "cf4f5a26e2090bb3adcf02c7a9d73dbfe6659cc690461475b86437fa49c71136", eurcIssuer},
	} {
		t.Run(test.name, func(t *testing.T) {
			var key [32]byte
			if _, err := hex.Decode(key[:], []byte(test.key)); err != nil {
				t.Fatal(err)
			}
			if got := stellarAddress(key); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestEthereumAddress compares addresses with the examples of ERC-55 and with the contract of USDC.
func TestEthereumAddress(t *testing.T) {
	for _, want := range []string{
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
		"0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
		"0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
		"0x52908400098527886E0F7030069857D2E4169EE7",
		"0xde709f2102306220921060314715629080e2fb77",
		ethereumUSDCIssuer,
	} {
		t.Run(want, func(t *testing.T) {
			var account [20]byte
			if _, err := hex.Decode(account[:], []byte(want[2:])); err != nil {
				t.Fatal(err)
			}
			if got := ethereumAddress(account); got != want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestNewAddress(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	for number, name := range typev1.Ledger_name {
		on := typev1.Ledger(number)
		if on == typev1.Ledger_LEDGER_UNSPECIFIED {
			continue
		}
		t.Run(name, func(t *testing.T) {
			one, err := NewAddress(on, random)
			if err != nil {
				t.Fatal(err)
			}
			two, err := NewAddress(on, random)
			if err != nil || one == two || !regexp.MustCompile(`^[A-Za-z0-9-]{10,}$`).MatchString(one) {
				t.Errorf("%q, then %q, %v", one, two, err)
			}
		})
	}
	if address, err := NewAddress(typev1.Ledger_LEDGER_UNSPECIFIED, random); err == nil {
		t.Errorf("no ledger, and the address is %s", address)
	}
}
