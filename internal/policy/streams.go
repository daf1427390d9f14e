package policy

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

// StreamLimits are the maximum numbers of open streams of one API key and of all callers. A stream
// uses memory and an upstream call for as long as its client wants, which a rate limit does not
// bound.
type StreamLimits struct{ PerKey, All int }

// streams counts the open streams. Its memory is bounded by their number.
type streams struct {
	mu       sync.Mutex
	all      int
	byCaller map[ratelimit.Caller]int
}

func newStreams() *streams {
	return &streams{byCaller: make(map[ratelimit.Caller]int)}
}

// open returns the number of open streams.
func (s *streams) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// enter counts a stream of the caller, or returns an error if a limit is reached. The limits may
// differ from those of the streams that are open. leave must be
// called when the stream has ended.
func (s *streams) enter(by ratelimit.Caller, limits StreamLimits) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.all >= limits.All:
		return apierror.New(codes.ResourceExhausted, apierror.RateLimited,
			"The gateway has reached its maximum number of open streams. Nothing was sent to the Mesh API. Try again later.")
	case s.byCaller[by] >= limits.PerKey:
		return apierror.New(codes.ResourceExhausted, apierror.RateLimited,
			fmt.Sprintf("This API key has %d open streams, which is the maximum. Nothing was sent to the Mesh API. Close one before you open another.", limits.PerKey))
	}
	s.all++
	s.byCaller[by]++
	return nil
}

func (s *streams) leave(by ratelimit.Caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.byCaller[by]--; s.byCaller[by] == 0 {
		delete(s.byCaller, by)
	}
}
