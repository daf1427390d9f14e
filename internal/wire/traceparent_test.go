package wire_test

import (
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

func TestTraceID(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	for _, test := range []struct{ name, traceparent, want string }{
		{"valid", "00-" + id + "-b7ad6b7169203331-01", id},
		{"nothing", "", ""},
		{"another version", "01-" + id + "-b7ad6b7169203331-01", ""},
		{"upper case", "00-" + strings.ToUpper(id) + "-b7ad6b7169203331-01", ""},
		{"too short", "00-" + id[1:] + "-b7ad6b7169203331-01", ""},
		{"too long", "00-" + id + "-b7ad6b7169203331-01-x", ""},
		{"a dash that is missing", "00-" + id + "0b7ad6b7169203331-01", ""},
		{"flags that are not hexadecimal", "00-" + id + "-b7ad6b7169203331-0x", ""},
		{"not hexadecimal", "00-" + strings.Replace(id, "0", "\n", 1) + "-b7ad6b7169203331-01", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := wire.TraceID(test.traceparent); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
