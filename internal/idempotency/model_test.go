package idempotency_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// TestModel plays random interleavings of clients that repeat requests, of gateways that share a
// store, and of operators. A gateway can crash or pause between any two steps. A write to the store
// can fail before it takes effect, after it, or before an effect that comes later. Time passes, and
// old records are purged.
//
// A step is everything up to the next call of the store or of Mesh. All that runs is blocked at a
// step until the test chooses it, so a failure can be repeated with its seed.
//
// The test checks, after each step and for each answer, that
//   - no key has two calls, unless Mesh certainly did not carry out the first,
//   - no record is done if Mesh did not carry out the request, or refused if it did,
//   - a replayed answer is the first answer,
//   - an answer that says that nothing was sent is true.
func TestModel(t *testing.T) {
	seen := make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{
			script: rapid.SliceOfN(rapid.Uint16(), 300, 1000).Draw(rt, "script"),
			store:  memstore.New(memstore.DefaultLimits()), keys: make(map[idempotency.ID]*history), seen: seen,
		}
		synctest.Test(t, func(*testing.T) { m.play() })
		if len(m.failures) > 0 {
			rt.Fatalf("%s\nafter:\n%s", strings.Join(m.failures, "\n"), strings.Join(m.trace, "\n"))
		}
	})
	// The test is worth nothing if it does not reach all ends of a request.
	for _, end := range []string{
		"reply", "refused", "replayed reply", "replayed refusal", "OUTCOME_UNKNOWN", "IDEMPOTENCY_KEY_IN_USE",
		"IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_UNAVAILABLE", "UPSTREAM_UNREACHABLE", "ALREADY_FINISHED", "crash", "settled", "already exists",
	} {
		if seen[end] == 0 {
			t.Errorf("no request ended with: %s", end)
		}
	}
	t.Log(seen)
}

// model is one play. One goroutine runs at a time, except for those whose timers end together.
type model struct {
	script []uint16 // the choices that are left
	store  *memstore.Store

	mu sync.Mutex // guards what follows, and the fields of the runs
	// trace is what was done, and failures are what was wrong.
	trace, failures []string

	runs []*run
	keys map[idempotency.ID]*history
	// late are writes that failed and will take effect.
	late   []func()
	passed time.Duration
	seen   map[string]int
}

// history is what really happened with a key.
type history struct {
	// calls is the number of calls to Mesh that are under way or that Mesh may have carried out.
	calls int
	// atMesh is the number of calls that Mesh has not decided on.
	atMesh int
	// carriedOut is the number of requests that Mesh carried out.
	carriedOut int
	// message is the request of the last call.
	message proto.Message
	// first is the first answer that ended the request.
	first string
	// settled counts how often an operator gave the key free. What happened before no longer counts.
	settled int
}

// run is a request at a gateway.
type run struct {
	number  int
	m       *model
	request idempotency.Request
	sent    proto.Message // as the client sent it
	history *history
	id      idempotency.ID
	step    string // what it waits for, or "" if it runs
	choice  chan string
	ended   bool
	called  bool
}

// play follows the script and then lets everything end without further faults.
func (m *model) play() {
	for len(m.script) > 0 && !m.failed() {
		m.act()
		m.check()
	}
	m.finish()
	m.check()
}

// pick takes one of the values, by the next choice of the script.
func pick[T any](m *model, what string, values []T) T {
	i := 0
	if len(m.script) > 0 {
		i = int(m.script[0]) % len(values)
		m.script = m.script[1:]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if chosen := fmt.Sprint(values[i]); chosen != "" {
		m.trace = append(m.trace, what+": "+chosen)
	}
	return values[i]
}

// fail records a failure. The caller holds the lock.
func (m *model) fail(format string, args ...any) {
	m.failures = append(m.failures, fmt.Sprintf(format, args...))
}

func (m *model) failed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.failures) > 0
}

// act does one thing.
func (m *model) act() {
	waiting := m.waiting()
	kinds := []string{"", "request", "request", "time"} // the first is for scripts that rapid shrinks
	if len(waiting) > 0 {
		kinds = append(kinds, slices.Repeat([]string{"step"}, 12)...)
	}
	m.mu.Lock()
	late := len(m.late)
	m.mu.Unlock()
	if late > 0 {
		kinds = append(kinds, "late")
	}
	if len(m.keys) > 0 {
		kinds = append(kinds, "settle", "purge")
	}
	switch pick(m, "act", kinds) {
	case "request":
		m.start()
	case "time":
		by := pick(m, "by", []time.Duration{time.Second, time.Second, 10 * time.Second, 10 * time.Second, time.Minute, 25 * time.Hour})
		if m.passed+by < idempotency.Retention { // then the key is new again
			m.passed += by
			time.Sleep(by)
		}
	case "step":
		r := pick(m, "request", waiting)
		r.choose(pick(m, "choice", choices(r)))
	case "late":
		i := pick(m, "write", []int{0, 1, 2, 3}[:min(late, 4)])
		m.mu.Lock()
		m.late[i]()
		m.late = slices.Delete(m.late, i, i+1)
		m.mu.Unlock()
	case "settle":
		m.settle()
	case "purge":
		if _, err := m.store.Purge(context.Background()); err != nil {
			panic(err) // a store in memory does not fail
		}
	}
	synctest.Wait()
}

func (m *model) waiting() []*run {
	m.mu.Lock()
	defer m.mu.Unlock()
	var waiting []*run
	for _, r := range m.runs {
		if r.step != "" && !r.ended {
			waiting = append(waiting, r)
		}
	}
	return waiting
}

// start sends a request with one of a few keys, so that most are repeated.
func (m *model) start() {
	amount := pick(m, "amount", []string{"1", "1", "1", "2"})
	method, message := "/transfer", proto.Message(transferOf(amount))
	if pick(m, "order", []bool{false, true}) {
		method, message = "/order", orderOf(amount)
	}
	r := &run{number: len(m.runs) + 1, m: m, sent: proto.Clone(message), choice: make(chan string), request: idempotency.Request{
		Key: pick(m, "key", []string{"a", "b"}), APIKey: apiKey, Group: group, Method: method, Message: message}}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.id = idempotency.IDOf(idempotency.CallerOf(apiKey), group, method, r.request.Key)
	if r.history = m.keys[r.id]; r.history == nil {
		r.history = new(history)
		m.keys[r.id] = r.history
	}
	m.runs = append(m.runs, r)
	go r.run()
}

// String is for the trace.
func (r *run) String() string {
	return fmt.Sprintf("%d, %s with key %s, at %q", r.number, r.request.Method, r.request.Key, r.step)
}

// run is the goroutine of a request.
func (r *run) run() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	defer r.do(func() { r.ended = true })
	keeper := idempotency.NewKeeper(faultyStore{r.m.store, r}, slog.New(slog.DiscardHandler))
	answer, err := keeper.Do(ctx, r.request, r.call)
	r.judge(answer, err)
}

// await blocks until the test chooses how the step goes on. A crash ends the goroutine.
func (r *run) await(step string) string {
	r.do(func() { r.step = step })
	choice := <-r.choice
	r.do(func() { r.step = "" })
	if choice == "crash" {
		r.do(func() { r.m.seen["crash"]++ })
		runtime.Goexit()
	}
	return choice
}

// do does something with what other goroutines use.
func (r *run) do(f func()) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	f()
}

func (r *run) choose(choice string) { r.choice <- choice }

// choices are the ways in which a step can go on.
func choices(r *run) []string {
	switch {
	case strings.HasPrefix(r.step, "store"):
		return []string{"go", "go", "go", "go", "go", "go", "crash", "fail", "fail after", "fail late"}
	case r.step == "mesh":
		all := []string{"reply", "reply", "carried out, no answer", "carried out, INTERNAL", "refuse", "no answer", "INTERNAL", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}
		if _, ok := r.request.Message.(*limitorderv1.CreateLimitOrderRequest); ok {
			all = append(all, "carried out, ALREADY_EXISTS", "carried out, ALREADY_EXISTS")
		}
		return all
	default:
		return []string{"go", "go", "go", "go", "crash"}
	}
}

// call is the gateway's call to Mesh.
func (r *run) call(ctx context.Context) idempotency.Outcome {
	r.await("send")
	if ctx.Err() != nil {
		return idempotency.NotSent(apierror.New(codes.Unavailable, apierror.UpstreamUnreachable, "too late")) // as grpc-go does
	}
	h, settled := r.history, 0
	r.do(func() {
		h.calls++
		h.atMesh++
		settled = h.settled
		h.message = r.sent
		r.called = true
	})
	how := r.await("mesh")
	r.do(func() {
		h.atMesh--
		switch {
		case strings.HasPrefix(how, "carried out"), how == "reply":
			h.carriedOut++
		case how == "UNAUTHENTICATED", how == "RESOURCE_EXHAUSTED":
			h.calls-- // the key may be used again
		}
	})
	r.await("answer of Mesh")
	switch how {
	case "reply":
		reply := fmt.Sprintf("reply %p", r)
		r.do(func() { h.first = reply })
		return idempotency.Replied([]byte(reply))
	case "refuse":
		r.do(func() {
			if h.settled == settled {
				h.first = "NotFound"
			}
		})
		return idempotency.RefusedByMesh(status.Error(codes.NotFound, "no such account"))
	case "UNAUTHENTICATED":
		return idempotency.RefusedByMesh(status.Error(codes.Unauthenticated, "who?"))
	case "RESOURCE_EXHAUSTED":
		return idempotency.RefusedByMesh(status.Error(codes.ResourceExhausted, "slowly"))
	case "INTERNAL", "carried out, INTERNAL":
		return idempotency.RefusedByMesh(status.Error(codes.Internal, "sorry"))
	case "carried out, ALREADY_EXISTS":
		r.do(func() { r.m.seen["already exists"]++ })
		return idempotency.RefusedByMesh(status.Error(codes.AlreadyExists, "twice"))
	default:
		return idempotency.Unanswered(apierror.New(codes.Unavailable, apierror.OutcomeUnknown, "no answer"))
	}
}

// judge checks an answer against what really happened.
func (r *run) judge(answer idempotency.Answer, err error) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	m, h := r.m, r.history
	end := apierror.ReasonOf(err)
	switch {
	case err == nil && answer.Replayed:
		end = "replayed reply"
		if r.called || string(answer.Reply) != h.first || !proto.Equal(r.sent, h.message) {
			m.fail("replayed %q; the first answer was %q, called %t", answer.Reply, h.first, r.called)
		}
	case err == nil:
		end = "reply"
		if !r.called || string(answer.Reply) != h.first {
			m.fail("answered %q; Mesh answered %q, called %t", answer.Reply, h.first, r.called)
		}
	case answer.Replayed:
		end = "replayed refusal"
		if code := status.Code(err); r.called || code.String() != h.first || !proto.Equal(r.sent, h.message) || h.carriedOut > 0 {
			m.fail("replayed %s; the first answer was %q, called %t", code, h.first, r.called)
		}
	case end == string(apierror.OutcomeUnknown):
	case end == string(apierror.AlreadyFinished):
		if r.called || strings.Contains(err.Error(), "not carried out") != (h.carriedOut == 0) {
			m.fail("%s; it was carried out %d times", err, h.carriedOut)
		}
	case end == string(apierror.IdempotencyKeyReused):
		if r.called || !slices.ContainsFunc(r.m.runs, func(o *run) bool { return o.id == r.id && !proto.Equal(o.sent, r.sent) }) {
			m.fail("all requests with the key are the same: %v", err)
		}
	case end == string(apierror.IdempotencyKeyInUse), end == string(apierror.IdempotencyUnavailable):
		if r.called {
			m.fail("called, and then: %v", err)
		}
	case r.called && end == "":
		end = "refused"
	case end == string(apierror.UpstreamUnreachable) && !r.called:
	default:
		m.fail("an unexpected answer: %v", err)
	}
	r.m.seen[end]++
}

// settle is an operator who knows what Mesh did, and who waits for calls that Mesh is working on.
func (m *model) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.store.List(context.Background(), idempotency.Filter{Sent: true}, func(record idempotency.Record, now time.Time) error {
		h := m.keys[record.ID]
		if !record.Unknown(now) || h.atMesh > 0 {
			return nil
		}
		m.seen["settled"]++
		if err := m.store.Settle(context.Background(), record.ID, record.Token, h.carriedOut > 0); err != nil {
			return err
		}
		if h.carriedOut == 0 {
			h.calls, h.first = 0, ""
			h.settled++
		}
		return nil
	})
	if err != nil {
		m.fail("%v", err)
	}
}

// check checks what must hold at all times.
func (m *model) check() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, h := range m.keys {
		if h.calls > 1 || h.carriedOut > 1 {
			m.fail("record %s: %d calls, carried out %d times", id, h.calls, h.carriedOut)
		}
	}
	err := m.store.List(context.Background(), idempotency.Filter{}, func(record idempotency.Record, _ time.Time) error {
		h := m.keys[record.ID]
		switch record.State {
		case idempotency.Done, idempotency.Settled:
			if h.carriedOut != 1 {
				return fmt.Errorf("%s is %s and was not carried out", record.ID, record.State)
			}
		case idempotency.Refused:
			if h.carriedOut != 0 {
				return fmt.Errorf("%s is refused and was carried out", record.ID)
			}
		}
		return nil
	})
	if err != nil {
		m.fail("%v", err)
	}
}

// finish lets everything end.
func (m *model) finish() {
	for {
		m.mu.Lock()
		for _, write := range m.late {
			write()
		}
		m.late = nil
		m.mu.Unlock()
		waiting := m.waiting()
		for _, r := range waiting {
			if r.step == "mesh" {
				r.choose("reply")
			} else {
				r.choose("go")
			}
			synctest.Wait()
		}
		if len(waiting) == 0 && m.idle() {
			return
		}
		time.Sleep(time.Second) // a repeated write
		synctest.Wait()
	}
}

// idle reports whether all requests have ended.
func (m *model) idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.runs, func(r *run) bool { return !r.ended })
}

// faultyStore is the store as one gateway sees it.
type faultyStore struct {
	*memstore.Store
	r *run
}

func (s faultyStore) Claim(ctx context.Context, record idempotency.Record, timeout time.Duration) (claim idempotency.Claim, err error) {
	err = s.write("claim", func() (err error) {
		claim, err = s.Store.Claim(ctx, record, timeout)
		return err
	})
	return claim, err
}

func (s faultyStore) Finish(ctx context.Context, id idempotency.ID, token idempotency.Token, state idempotency.State, sealed []byte) error {
	return s.write("finish", func() error { return s.Store.Finish(ctx, id, token, state, sealed) })
}

func (s faultyStore) Release(ctx context.Context, id idempotency.ID, token idempotency.Token) error {
	return s.write("release", func() error { return s.Store.Release(ctx, id, token) })
}

func (s faultyStore) write(name string, write func() error) error {
	switch s.r.await("store: " + name) {
	case "fail":
		return idempotency.ErrUnavailable
	case "fail late":
		s.r.do(func() { s.r.m.late = append(s.r.m.late, func() { _ = write() }) })
		return idempotency.ErrUnavailable
	case "fail after":
		_ = write()
		s.r.await("store: failed")
		return idempotency.ErrUnavailable
	}
	err := write()
	s.r.await("answer of the store")
	return err
}

const (
	apiKey = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
	group  = "groups/01ARZ3NDEKTSV4RRFFQ69G5FAV"
)

func transferOf(amount string) *transferv1.CreateTransferRequest {
	return &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{Owner: group, Description: amount}}
}

func orderOf(account string) *limitorderv1.CreateLimitOrderRequest {
	return &limitorderv1.CreateLimitOrderRequest{LimitOrder: &limitorderv1.LimitOrder{Owner: group, Account: account}}
}
