package idempotency

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
)

// derive returns a 256-bit key for one purpose (RFC 5869). An API key has 256 bits of entropy, so
// it needs no salt and no slow hash.
func derive(secret, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, purpose, sha256.Size)
	if err != nil {
		// Only a key of more than 8160 bytes, or a short secret in FIPS mode, is an error.
		panic("idempotency: " + err.Error())
	}
	return key
}

// cipherOf returns the cipher of a record: AES-256-GCM with a random nonce, under a key that is
// derived from the API key for this record alone.
func cipherOf(apiKey string, id ID) cipher.AEAD {
	block, err := aes.NewCipher(derive(apiKey, "mesh-gateway idempotency answer 1"+string(id[:])))
	if err != nil {
		panic("idempotency: " + err.Error()) // the size of the key is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("idempotency: " + err.Error()) // the cipher is of crypto/aes
	}
	return aead
}

// seal encrypts the answer of a record that is about to reach the state.
func seal(apiKey string, r *Record, state State, answer []byte) []byte {
	return cipherOf(apiKey, r.ID).Seal(nil, nil, answer, r.bound(state)) //nolint:gosec // the nonce is random
}

// open returns the answer of a record. The error is one of the cipher if the record was changed.
func open(apiKey string, r *Record) ([]byte, error) {
	return cipherOf(apiKey, r.ID).Open(nil, nil, r.Sealed, r.bound(r.State))
}

// bound is what the answer is bound to: who can write to the store but has no API key can neither
// swap the answers of two records nor turn a refusal into a reply.
func (r *Record) bound(state State) []byte {
	b := append([]byte{byte(r.Version)}, r.ID[:]...)
	b = appendBytes(b, r.Fingerprint)
	return append(b, state...)
}
