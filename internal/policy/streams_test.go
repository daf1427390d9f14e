package policy

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

func TestStreamsAreCounted(t *testing.T) {
	s, limits := newStreams(), StreamLimits{PerKey: 2, All: 3}
	// The steps share the count, in this order.
	for _, step := range []struct {
		name, caller string
		message      string // part of the error message, or "" if there is no error
	}{
		{"below the limit of a key", "a", ""},
		{"at the limit of a key", "a", ""},
		{"over the limit of a key", "a", "has 2 open streams"},
		{"at the limit of all", "b", ""},
		{"over the limit of all", "b", "maximum number of open streams"},
	} {
		t.Run(step.name, func(t *testing.T) {
			err := s.enter(callerNamed(step.caller), limits)
			if step.message == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, codes.ResourceExhausted, apierror.RateLimited)
			if err != nil && !strings.Contains(err.Error(), step.message) {
				t.Errorf("message %q does not contain %q", err, step.message)
			}
		})
	}
	t.Run("after a stream has ended, another may open", func(t *testing.T) {
		s.leave(callerNamed("a"))
		if err := s.enter(callerNamed("a"), limits); err != nil {
			t.Error(err)
		}
	})
	t.Run("callers without streams are forgotten", func(t *testing.T) {
		for _, caller := range []string{"a", "a", "b"} {
			s.leave(callerNamed(caller))
		}
		if s.all != 0 || len(s.byCaller) != 0 {
			t.Errorf("%d streams, callers %v", s.all, s.byCaller)
		}
	})
}

// callerNamed returns the caller of an API key.
func callerNamed(key string) ratelimit.Caller { return callerOf(key, ratelimit.Caller{}) }
