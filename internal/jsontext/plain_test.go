package jsontext_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/jsontext"
)

// TestPlain has each byte at each place of texts of each length, up to three times what is looked at at
// a time. A text is plain if encoding/json only adds quotes.
func TestPlain(t *testing.T) {
	for length := range 25 {
		for at := range length {
			for c := range 256 {
				text := strings.Repeat("a", at) + string([]byte{byte(c)}) + strings.Repeat("~", length-at-1)
				var quoted strings.Builder
				encoder := json.NewEncoder(&quoted)
				encoder.SetEscapeHTML(false)
				if err := encoder.Encode(text); err != nil {
					t.Fatal(err)
				}
				want := quoted.String() == `"`+text+"\"\n"
				if got := jsontext.Plain([]byte(text)); got != want {
					t.Errorf("%q: %t, want %t", text, got, want)
				}
			}
		}
	}
	if !jsontext.Plain(nil) {
		t.Error("the empty text is not plain")
	}
}
