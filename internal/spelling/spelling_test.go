package spelling_test

import (
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/spelling"
)

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"listen", "listen", 0},
		{"", "listen", 6},
		{"listen", "", 6},
		{"lsten", "listen", 1},
		{"liisten", "listen", 1},
		{"lasten", "listen", 1},
		{"lisetn", "listen", 2},
		{"store", "redis", 5},
	} {
		if got := spelling.Distance(test.a, test.b); got != test.want {
			t.Errorf("from %q to %q: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
