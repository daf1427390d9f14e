package admission

import (
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	// A window ends after leastCalls and leastTime, or after longTime with fewCalls. One that has
	// not ended after expireTime says nothing.
	leastCalls = 32
	leastTime  = 100 * time.Millisecond
	fewCalls   = 8
	longTime   = 2 * time.Second
	expireTime = 10 * time.Second

	// slack is how long calls may wait in the upstream without anybody minding, however fast they
	// are otherwise. Those that take longer may take twice as long.
	slack = 100 * time.Millisecond
	// tolerance is the factor above the target that is taken for noise.
	tolerance = 1.5
	// leastLimit is the least limit of a service.
	leastLimit = 8
	// calmTime is how long no call may have waited until a limit is dropped.
	calmTime = 10 * time.Second
	// usualTime is how fast the usual duration of calls follows when they become slower without an
	// overload. When they become faster, it follows at once.
	usualTime = time.Minute
	// lostRate is the part of the throughput that a lower limit may cost. A limit that costs more
	// does not shorten a queue.
	lostRate = 0.75
)

// Service is what is known of the calls of one service.
//
// There is no limit until calls take longer than usual: more than twice as long, and by more than
// [slack]. They may then be waiting for each other. The limit becomes what the upstream gets done in
// the time that a call should take (Little's law), and the calls above it wait in the gateway, by
// their priority. It follows the throughput from one window of measurements to the next.
//
// If calls still take as long with the lower limit, and fewer of them get done, they did not wait for
// each other. The upstream has become slower, and that becomes the usual duration.
//
// The usual duration is kept for each method, so that it does not matter which of them are called.
type Service struct {
	name string
	gate *gate

	mu      sync.Mutex
	methods []*method
	window  window
	// draining is set while more calls are in flight than a lower limit allows. What is measured
	// then does not follow from that limit.
	draining bool
	// peak is the throughput before the limit was lowered, in calls per second.
	peak float64
	// answered is how many calls were answered since the start of the window.
	answered int
	// suspect is set if the last window showed a backlog.
	suspect bool
}

// window is what was measured since its start. While there is a limit, that is of calls that started
// since then, under this limit.
type window struct {
	start           time.Time
	calls, timeouts int
	// actual is how long the calls took, and usual how long they usually take, in seconds.
	actual, usual float64
}

// method is what is known of the calls of one method.
type method struct {
	service *Service
	class   Class
	need    need

	// Under the lock of the service, in seconds. usual is 0 if it is not known.
	usual, sum float64
	calls      int
}

func newService(name string) *Service { return &Service{name: name, gate: newGate()} }

func (s *Service) add(class Class) *method {
	m := &method{service: s, class: class}
	s.methods = append(s.methods, m)
	return m
}

// Name returns the full name of the service.
func (s *Service) Name() string { return s.name }

// Limit returns how many calls may be in flight, or 0 if there is no limit.
func (s *Service) Limit() int64 { return s.gate.Limit() }

// InFlight returns how many calls are in flight. Open streams do not count.
func (s *Service) InFlight() int64 { return s.gate.inFlight.Load() }

// Queued returns how many calls wait.
func (s *Service) Queued() int64 { return s.gate.queue() }

// observe measures a call that has ended.
//
// A call that failed says nothing of how long calls take, unless it failed because it took too long.
func (m *method) observe(start, end time.Time, err error) {
	timedOut := tookTooLong(err)
	took := end.Sub(start)
	if m.class == Write {
		switch {
		case err == nil:
			m.need.add(end, took)
		case timedOut:
			// It would have taken longer, and nobody knows how much.
			m.need.add(end, 2*took)
		}
	}
	s := m.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.window.start.IsZero() {
		s.restart(start)
	}
	switch {
	case err == nil:
		s.answered++
	case !timedOut:
		return
	}
	if s.draining && s.gate.inFlight.Load() <= s.gate.limit.Load() {
		s.draining = false
		s.restart(end)
	}
	if s.draining || start.Before(s.window.start) && s.gate.limit.Load() != unlimited {
		return
	}
	seconds := took.Seconds()
	s.window.calls++
	s.window.actual += seconds
	if m.usual > 0 {
		s.window.usual += m.usual
	} else {
		s.window.usual += seconds
	}
	if timedOut {
		s.window.timeouts++
	} else {
		m.calls++
		m.sum += seconds
	}
	// In a window that is shorter than a call, the number of answers depends on when calls began.
	least := max(leastTime, time.Duration(s.window.actual/float64(s.window.calls)*float64(time.Second)))
	switch elapsed := end.Sub(s.window.start); {
	case elapsed >= least && s.window.calls >= leastCalls, elapsed >= max(least, longTime) && s.window.calls >= fewCalls:
		s.adjust(end, elapsed)
	case elapsed >= expireTime:
		s.restart(end)
	}
}

// tookTooLong reports whether a call was sent and had no answer by its deadline.
func tookTooLong(err error) bool {
	if err == nil || status.Code(err) != codes.DeadlineExceeded {
		return false
	}
	own, ok := errors.AsType[*apierror.Error](err)
	return !ok || own.Sent()
}

// restart begins a window.
func (s *Service) restart(now time.Time) {
	s.window = window{start: now}
	s.answered = 0
	for _, m := range s.methods {
		m.sum, m.calls = 0, 0
	}
}

// adjust changes the limit after a window.
func (s *Service) adjust(now time.Time, elapsed time.Duration) {
	calls := float64(s.window.calls)
	actual, usual := s.window.actual/calls, s.window.usual/calls
	target := usual + max(usual, slack.Seconds())
	rate := float64(s.answered) / elapsed.Seconds()
	slow := actual > tolerance*target
	limit := s.gate.limit.Load()
	s.gate.rate.Store(int64(rate))

	switch {
	case limit == unlimited:
		inFlight := s.gate.inFlight.Load()
		// Calls that start now will be answered when those in flight are. That shows earlier than
		// in the calls that have ended.
		backlog := float64(inFlight) > tolerance*target*rate
		if inFlight > leastLimit && (slow || backlog && s.suspect) {
			s.peak = rate
			s.lower(min(inFlight, int64(rate*target)))
		}
		s.suspect = backlog
	case s.gate.waitedSince(s.window.start):
		if slow && rate < lostRate*s.peak && 10*s.window.timeouts < s.window.calls {
			s.slower(actual / usual)
			s.peak = rate
			break
		}
		s.peak = max(rate, s.peak*0.98)
		next := min(max(int64(rate*target), limit/2), 2*limit)
		switch {
		case next < limit-limit/10:
			s.lower(next)
		case next != limit:
			s.gate.set(max(leastLimit, next))
		}
	case !s.gate.waitedSince(now.Add(-calmTime)):
		s.gate.set(unlimited)
	}
	s.learn(elapsed, !slow && s.gate.limit.Load() == unlimited)
	s.restart(now)
}

// lower lowers the limit.
func (s *Service) lower(limit int64) {
	limit = max(leastLimit, limit)
	s.gate.set(limit)
	s.draining = s.gate.inFlight.Load() > limit
}

// slower multiplies the usual durations.
func (s *Service) slower(factor float64) {
	for _, m := range s.methods {
		m.usual *= factor
	}
}

// learn changes the usual durations by the window. They only become longer if calm is set.
func (s *Service) learn(elapsed time.Duration, calm bool) {
	for _, m := range s.methods {
		if m.calls == 0 {
			continue
		}
		mean := m.sum / float64(m.calls)
		weight := min(1, float64(m.calls)/leastCalls)
		switch {
		case m.usual == 0:
			m.usual = mean
		case mean < m.usual:
			m.usual += weight * (mean - m.usual)
		case calm:
			m.usual += weight * min(1, elapsed.Seconds()/usualTime.Seconds()) * (mean - m.usual)
		}
	}
}
