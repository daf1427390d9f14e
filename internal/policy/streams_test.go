package policy

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

func TestStreamsAreCounted(t *testing.T) {
	s := newStreams(StreamLimits{PerKey: 2, All: 3})
	// The steps share the count, in this order.
	for _, step := range []struct {
		name, caller string
		refusal      string // part of the message; "" where the stream may open
	}{
		{"below the limit of a key", "a", ""},
		{"at the limit of a key", "a", ""},
		{"over the limit of a key", "a", "has 2 streams open"},
		{"at the limit of all", "b", ""},
		{"over the limit of all", "b", "as many streams as it can"},
	} {
		t.Run(step.name, func(t *testing.T) {
			err := s.enter(step.caller)
			if step.refusal == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantRefusal(t, err, codes.ResourceExhausted, apierror.RateLimited)
			if err != nil && !strings.Contains(err.Error(), step.refusal) {
				t.Errorf("message %q, want %q in it", err, step.refusal)
			}
		})
	}
	t.Run("one that has ended makes room", func(t *testing.T) {
		s.leave("a")
		if err := s.enter("a"); err != nil {
			t.Error(err)
		}
	})
	t.Run("nothing is kept of callers that have left", func(t *testing.T) {
		for _, caller := range []string{"a", "a", "b"} {
			s.leave(caller)
		}
		if s.all != 0 || len(s.byCaller) != 0 {
			t.Errorf("%d streams, callers %v", s.all, s.byCaller)
		}
	})
}
