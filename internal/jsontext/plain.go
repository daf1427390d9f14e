// Package jsontext tells whether text can be written between quotes of JSON as it is.
package jsontext

import "encoding/binary"

// Plain reports whether text is ASCII without a character that JSON escapes. It looks at eight bytes at
// a time.
func Plain(text []byte) bool {
	special := uint64(0)
	n := len(text)
	if n < 8 {
		for _, c := range text {
			special |= uint64(unplain[c])
		}
		return special == 0
	}
	at := 0
	for ; at+8 <= n; at += 8 {
		special |= unplainChunk(binary.LittleEndian.Uint64(text[at:]))
	}
	// The last eight bytes, some of them again.
	special |= unplainChunk(binary.LittleEndian.Uint64(text[n-8:]))
	return special&highs == 0
}

const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// unplainChunk returns a value with a high bit in one of its bytes if a byte of chunk is not
// plain: it is not ASCII, a control character, a quote or a backslash.
func unplainChunk(chunk uint64) uint64 {
	quote, backslash := chunk^('"'*ones), chunk^('\\'*ones)
	return chunk | (chunk-' '*ones)&^chunk | (quote-ones)&^quote | (backslash-ones)&^backslash
}

// unplain is 1 for a byte that is not plain.
var unplain = func() (table [256]byte) {
	for c := range table {
		if c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			table[c] = 1
		}
	}
	return table
}()
