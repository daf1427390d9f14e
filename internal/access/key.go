package access

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// minHashDigits is the minimum length of a hash that is not written in full, in hexadecimal digits.
// No two keys share so many by chance.
const minHashDigits = 16

// prefix is the beginning of the SHA-256 of an API key, as long as the shortest that may be written.
type prefix [minHashDigits / 2]byte

// Key is the rule of one API key. Its text is the hash of the key, followed by the methods and
// services that the key may call, and by "from" and the networks from which it may be used, all
// separated by spaces:
//
//	5e884898da280471 TransferService GetAccount from 10.0.0.0/8 2001:db8::/32
//
// Without methods, the key may call all of them. Without networks, it may be used from all that
// [Config] allows.
type Key struct {
	text     string
	hash     []byte              // at least as long as a prefix
	methods  map[string]struct{} // full names of RPCs; nil for all
	networks []netip.Prefix
}

// String returns the text of the rule.
func (k Key) String() string { return k.text }

// UnmarshalText parses a rule. The hash is the SHA-256 of the key in hexadecimal, or the first 16 or
// more digits of it, or in base64, which GetAPIUserByKeyHash takes. An error does not repeat it, since
// it may be a key that was written in place of its hash.
func (k *Key) UnmarshalText(text []byte) error {
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return errors.New("the rule is empty; it begins with the SHA-256 of an API key")
	}
	hash, err := parseHash(fields[0])
	if err != nil {
		return err
	}
	parsed := Key{text: strings.Join(fields, " "), hash: hash}
	for i, field := range fields[1:] {
		if field == "from" {
			if parsed.networks, err = parseNetworks(fields[i+2:]); err != nil {
				return err
			}
			break
		}
		methods, err := Find(field)
		if err != nil {
			return err
		}
		if parsed.methods == nil {
			parsed.methods = make(map[string]struct{})
		}
		for _, method := range methods {
			parsed.methods[method.Name()] = struct{}{}
		}
	}
	*k = parsed
	return nil
}

func parseHash(text string) ([]byte, error) {
	if hash, err := base64.StdEncoding.DecodeString(text); err == nil && len(hash) == sha256.Size {
		return hash, nil
	}
	hash, err := hex.DecodeString(text)
	if err != nil || len(text) < minHashDigits || len(hash) > sha256.Size {
		return nil, fmt.Errorf("the rule does not begin with the SHA-256 of an API key: want 64 hexadecimal digits, or an even number of the first ones, at least %d; printf %%s \"$KEY\" | sha256sum prints them", minHashDigits)
	}
	return hash, nil
}

func parseNetworks(fields []string) ([]netip.Prefix, error) {
	if len(fields) == 0 {
		return nil, errors.New("there is no network after from")
	}
	var networks []netip.Prefix
	for _, field := range fields {
		network, err := ParseNetwork(field)
		if err != nil {
			return nil, err
		}
		networks = append(networks, network)
	}
	return unmap(networks), nil
}
