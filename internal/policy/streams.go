package policy

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// StreamLimits is how many streams may be open at a time: those of one API key,
// and all of them. A stream holds memory and an upstream call for as long as its
// client likes, which a rate cannot bound.
type StreamLimits struct{ PerKey, All int }

// streams counts the streams that are open. Its memory is bounded by their number.
type streams struct {
	limits StreamLimits

	mu       sync.Mutex
	all      int
	byCaller map[string]int
}

func newStreams(limits StreamLimits) *streams {
	return &streams{limits: limits, byCaller: make(map[string]int)}
}

// enter counts a stream of the caller, or refuses one beyond a limit. The caller
// leaves when the stream has ended.
func (s *streams) enter(caller string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.all >= s.limits.All:
		return apierror.New(codes.ResourceExhausted, apierror.RateLimited,
			"The gateway serves as many streams as it can. Try again later.")
	case s.byCaller[caller] >= s.limits.PerKey:
		return apierror.New(codes.ResourceExhausted, apierror.RateLimited,
			fmt.Sprintf("This API key has %d streams open, the most that there may be. Close one first.", s.limits.PerKey))
	}
	s.all++
	s.byCaller[caller]++
	return nil
}

func (s *streams) leave(caller string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.byCaller[caller]--; s.byCaller[caller] == 0 {
		delete(s.byCaller, caller)
	}
}
