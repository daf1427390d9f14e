package middleware

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// StreamLimits is how many streams may be open at one time: of one API key, and
// of all together. A stream holds memory and an upstream call for as long as
// its client likes, which a rate cannot bound.
type StreamLimits struct{ PerKey, All int }

// Streams counts the streams that are open. Its memory is bounded by the
// streams themselves.
type Streams struct {
	limits StreamLimits

	mu  sync.Mutex
	all int
	// byKey is by the key's hash: a key is kept nowhere.
	byKey map[[sha256.Size]byte]int
}

// NewStreams returns a count of none.
func NewStreams(limits StreamLimits) *Streams {
	return &Streams{limits: limits, byKey: make(map[[sha256.Size]byte]int)}
}

// Limit answers 429 to a stream beyond a limit. It is put behind Auth, which
// sees to it that there is a key.
func (s *Streams) Limit(method *contract.Method) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if !method.Streams() {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			key := sha256.Sum256([]byte(r.Header.Get(apiKeyHeader)))
			if problem := s.enter(key); problem != "" {
				apierror.Write(w, r, apierror.New(codes.ResourceExhausted, apierror.RateLimited, problem))
				return
			}
			defer s.leave(key)
			next.ServeHTTP(w, r)
		})
	}
}

// enter counts a stream, or says why there can be no more.
func (s *Streams) enter(key [sha256.Size]byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.all >= s.limits.All:
		return "The gateway serves as many streams as it can. Try again later."
	case s.byKey[key] >= s.limits.PerKey:
		return fmt.Sprintf("This API key has %d streams open, the most that there may be. Close one first.", s.limits.PerKey)
	}
	s.all++
	s.byKey[key]++
	return ""
}

func (s *Streams) leave(key [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.byKey[key]--; s.byKey[key] == 0 {
		delete(s.byKey, key)
	}
}
