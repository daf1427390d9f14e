package policy

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

func TestDeadline(t *testing.T) {
	const limit = 10 * time.Second
	for _, test := range []struct {
		name    string
		stream  bool
		header  string
		want    time.Duration // 0 means no deadline
		wantErr bool
	}{
		{"no timeout", false, "", limit, false},
		{"below the limit", false, "2.5", 2500 * time.Millisecond, false},
		{"at the limit", false, "10", limit, false},
		{"over the limit", false, "11", limit, false},
		{"a stream without a timeout", true, "", 0, false},
		{"a stream with a timeout", true, "60", time.Minute, false},
		{"zero", false, "0", 0, true},
		{"below zero", false, "-1", 0, true},
		{"a day", false, "86400", limit, false},
		{"more than a day", false, "86401", 0, true},
		{"not a number of seconds", false, "5s", 0, true},
		{"NaN", false, "NaN", 0, true},
		{"zero on a stream", true, "0", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := headerOf()
			if test.header != "" {
				header.Set(wire.RequestTimeoutHeader, test.header)
			}
			got, limited, err := deadline(header, test.stream, limit)
			if test.wantErr {
				wantError(t, err, codes.InvalidArgument, apierror.InvalidRequest)
				return
			}
			if err != nil || got != test.want || limited != (test.want > 0) {
				t.Errorf("%s, limited %t, %v; want %s", got, limited, err, test.want)
			}
		})
	}
}
