package budget_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/budget"
)

const (
	limit    = 64 << 20
	maxReply = 16 << 20
	mib      = 1 << 20
)

func newBudget() *budget.Budget {
	return budget.New(budget.Options{Limit: limit, MaxReply: maxReply})
}

func admit(t *testing.T, b *budget.Budget, call budget.Call) *budget.Lease {
	t.Helper()
	lease, err := b.Admit(t.Context(), call)
	if err != nil {
		t.Fatalf("%+v: %v", call, err)
	}
	return lease
}

// hold admits a call whose reply has a size.
func hold(t *testing.T, b *budget.Budget, call budget.Call, size int64) *budget.Lease {
	t.Helper()
	lease := admit(t, b, call)
	if !call.Write && size > lease.Limit() {
		if err := lease.Grow(size); err != nil {
			t.Fatal(err)
		}
	}
	lease.Hold(size)
	return lease
}

// wantRefusal checks that an error can be repeated and says what was sent.
func wantRefusal(t *testing.T, err error, said string) {
	t.Helper()
	st := apierror.Status(err)
	var retry *errdetails.RetryInfo
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			retry = info
		}
	}
	if st.Code() != codes.Unavailable || apierror.ReasonOf(err) != string(apierror.Overloaded) || retry == nil || !strings.Contains(st.Message(), said) {
		t.Errorf("%v: %s, %v, want OVERLOADED with a RetryInfo and %q", st.Code(), st.Message(), retry, said)
	}
}

// TestRoom fills the budget, and then admits one more call.
func TestRoom(t *testing.T) {
	read := func(caller string) budget.Call { return budget.Call{Caller: callerNamed(caller), RPC: "/List"} }
	write := func(caller string) budget.Call {
		return budget.Call{Caller: callerNamed(caller), RPC: "/Create", Write: true}
	}
	for _, test := range []struct {
		name string
		// held is what each caller holds, in MiB.
		held map[string]int64
		call budget.Call
		// said is in the message of the refusal; "" if the call is admitted.
		said string
	}{
		{"nothing is held", nil, read("a"), ""},
		{"a key has almost a quarter", map[string]int64{"a": 14}, read("a"), ""},
		{"a key has its quarter", map[string]int64{"a": 15}, read("a"), "of one key"},
		{"another key has its quarter", map[string]int64{"a": 15}, read("b"), ""},
		{"a tenth of its quarter is kept for the writes of a key", map[string]int64{"a": 15}, write("a"), ""},
		{"the writes of a key have a quarter, too", map[string]int64{"a": 16}, write("a"), "of one key"},
		{"reads hold almost nine tenths", map[string]int64{"a": 14, "b": 14, "c": 14, "d": 14}, read("e"), ""},
		{"reads hold nine tenths", map[string]int64{"a": 14, "b": 14, "c": 14, "d": 14, "e": 2}, read("f"), "no memory"},
		{"a tenth is kept for writes", map[string]int64{"a": 14, "b": 14, "c": 14, "d": 14, "e": 2}, write("f"), ""},
		{"writes have a limit, too", map[string]int64{"a": 14, "b": 14, "c": 14, "d": 14, "e": 8}, write("f"), "no memory"},
		{"a body that does not fit", map[string]int64{"a": 12}, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Create", Write: true, Body: 2 * mib}, "of one key"},
		{"a large body if the key holds little", nil, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Create", Write: true, Body: 20 * mib}, ""},
		{"a stream", map[string]int64{"a": 14}, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Monitor", Stream: true}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBudget()
			leases := make(map[string]*budget.Lease)
			for caller := range test.held {
				leases[caller] = admit(t, b, budget.Call{Caller: callerNamed(caller), RPC: "/Other", Write: true})
			}
			for caller, lease := range leases {
				lease.Hold(test.held[caller] * mib)
			}
			before := b.Held()
			lease, err := b.Admit(t.Context(), test.call)
			if test.said == "" {
				if err != nil || b.Held() <= before || b.Refused() != 0 {
					t.Fatalf("error %v, %d bytes more, %d refused; want none", err, b.Held()-before, b.Refused())
				}
				lease.Release()
			} else {
				wantRefusal(t, err, test.said)
				wantRefusal(t, err, "Nothing was sent")
				if b.Refused() != 1 {
					t.Errorf("refused = %d, want 1", b.Refused())
				}
			}
			if b.Held() != before {
				t.Errorf("%d bytes are held after the call, want %d", b.Held(), before)
			}
		})
	}
}

// TestALargeReplyIsServed has replies that exceed the share of a key.
func TestALargeReplyIsServed(t *testing.T) {
	b := newBudget()
	first := admit(t, b, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Get"}) // the key holds something
	large := admit(t, b, budget.Call{Caller: budget.Caller{'a'}, RPC: "/List"})
	if err := large.Grow(maxReply); err != nil {
		t.Fatalf("a reply as large as the share of a key: %v", err)
	}
	if large.Limit() != maxReply {
		t.Errorf("limit = %d, want that of the connection", large.Limit())
	}
	_, err := b.Admit(t.Context(), budget.Call{Caller: budget.Caller{'a'}, RPC: "/Other"})
	wantRefusal(t, err, "of one key")
	large.Release()
	first.Release()
	admit(t, b, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Other"})
}

func TestTheReplyReplacesItsReservation(t *testing.T) {
	b := newBudget()
	lease := admit(t, b, budget.Call{Caller: budget.Caller{'a'}, RPC: "/List", List: true})
	reserved, expected := b.Held(), lease.Limit()
	lease.Hold(1000)
	// A reply is held twice while it is received.
	if want := reserved - 2*expected + 1000; b.Held() != want {
		t.Errorf("held = %d, want %d", b.Held(), want)
	}
	lease.Add(500)
	lease.Release()
	lease.Release()
	if b.Held() != 0 {
		t.Errorf("held = %d after the release, want 0", b.Held())
	}
}

// TestTheReplyToAWriteIsDelivered has a reply to a write that nothing was reserved for.
func TestTheReplyToAWriteIsDelivered(t *testing.T) {
	b := newBudget()
	lease := admit(t, b, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Create", Write: true})
	if lease.Limit() != 0 {
		t.Errorf("limit = %d, want none", lease.Limit())
	}
	lease.Hold(limit / 2)
	if b.Overshoots() != 0 {
		t.Errorf("overshoots = %d within the limit", b.Overshoots())
	}
	lease.Hold(limit)
	if b.Overshoots() != 1 || b.Held() <= limit {
		t.Errorf("overshoots = %d with %d bytes held, want 1", b.Overshoots(), b.Held())
	}
}

func TestEstimates(t *testing.T) {
	const kib = 1 << 10
	for _, test := range []struct {
		name string
		list bool
		// replies are sizes of replies, each to another caller.
		replies []int64
		// own are those to the caller.
		own      []int64
		min, max int64
	}{
		{"the first call", false, nil, nil, 16 * kib, 16 * kib},
		{"the first list", true, nil, nil, 256 * kib, 256 * kib},
		{"one reply", true, []int64{mib}, nil, mib, mib * 5 / 4},
		{"a tiny reply", true, []int64{10}, nil, 4 * kib, 4 * kib},
		{"the largest of few", false, []int64{10, 10, mib, 10, 10}, nil, mib, mib * 5 / 4},
		{"a twentieth may be larger", false, append(repeat(mib, 5), repeat(100*kib, 95)...), nil, 100 * kib, 125 * kib},
		{"more than a twentieth", false, append(repeat(mib, 6), repeat(100*kib, 94)...), nil, mib, mib * 5 / 4},
		{"old replies are forgotten", false, append(repeat(mib, 200), repeat(100*kib, 2000)...), nil, 100 * kib, 125 * kib},
		{"a caller who gets less", false, repeat(mib, 100), []int64{100 * kib}, 100 * kib, 125 * kib},
		{"a caller who gets more", false, repeat(10*kib, 100), []int64{mib}, mib, mib * 5 / 4},
		{"a caller who got more and now gets less", false, repeat(10*kib, 100), []int64{mib, 10 * kib}, mib * 3 / 4, mib * 5 / 4},
		{"a caller who got more long ago", false, repeat(10*kib, 100), append([]int64{mib}, repeat(10*kib, 200)...), 10 * kib, 13 * kib},
		{"a size that no reply may have", false, []int64{1 << 40}, nil, maxReply, maxReply},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBudget()
			rpc := budget.Call{RPC: "/List", List: test.list, Write: false}
			learn := func(caller string, size int64) {
				call := rpc
				call.Caller = callerNamed(caller)
				lease := admit(t, b, call)
				lease.Hold(size)
				lease.Release()
			}
			for i, size := range test.replies {
				learn(fmt.Sprint(i), size)
			}
			rpc.Caller = callerNamed("own")
			for _, size := range test.own {
				learn("own", size)
			}
			if got := admit(t, b, rpc).Limit(); got < test.min || got > test.max {
				t.Errorf("%d bytes are reserved, want %d to %d", got, test.min, test.max)
			}
		})
	}
}

func repeat(size int64, times int) []int64 {
	sizes := make([]int64, times)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

func TestGrow(t *testing.T) {
	b := newBudget()
	lease := admit(t, b, budget.Call{Caller: budget.Caller{'a'}, RPC: "/List"})
	if err := lease.Grow(5 * mib); err != nil {
		t.Fatal(err)
	}
	if lease.Limit() < 5*mib || b.Held() < 10*mib {
		t.Errorf("limit = %d and %d held, want 5 MiB, and twice as much while it is received", lease.Limit(), b.Held())
	}
	if err := lease.Grow(maxReply + 1); err != nil || lease.Limit() > maxReply {
		t.Errorf("a reply that is too large for the connection: %v, limit = %d", err, lease.Limit())
	}

	lease.Hold(5 * mib)
	hold(t, b, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Other"}, 5*mib)
	before := b.Held()
	another := admit(t, b, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Third"})
	err := another.Grow(5 * mib)
	wantRefusal(t, err, "read-only and safe to repeat")
	if strings.Contains(err.Error(), "Nothing was sent") {
		t.Errorf("%v, but it was sent", err)
	}
	another.Release()
	if b.Held() != before {
		t.Errorf("held = %d, want %d", b.Held(), before)
	}
	// What was refused is known the next time.
	if _, err := b.Admit(t.Context(), budget.Call{Caller: budget.Caller{'a'}, RPC: "/Third"}); err == nil {
		t.Error("the same call was admitted again")
	}
}

func TestBody(t *testing.T) {
	b := newBudget()
	lease := admit(t, b, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Create", Write: true, Body: -1})
	before := b.Held()
	read, err := io.ReadAll(lease.Body(io.NopCloser(bytes.NewReader(make([]byte, mib)))))
	if err != nil || len(read) != mib || b.Held() < before+mib {
		t.Fatalf("%d bytes read, %v, %d more held", len(read), err, b.Held()-before)
	}
	_, err = io.ReadAll(lease.Body(io.NopCloser(bytes.NewReader(make([]byte, limit)))))
	wantRefusal(t, err, "Nothing was sent")
	if b.Held() > limit/4 {
		t.Errorf("held = %d, which is more than a quarter", b.Held())
	}
	wantRefusal(t, lease.GrowBody(limit/8), "Nothing was sent")
	broken := errors.New("broken")
	if _, err := lease.Body(io.NopCloser(iotest.ErrReader(broken))).Read(make([]byte, 1)); !errors.Is(err, broken) {
		t.Errorf("the error of the body is %v, want its own", err)
	}
	lease.Release()
	if b.Held() != 0 {
		t.Errorf("held = %d after the release, want 0", b.Held())
	}
}

func TestOf(t *testing.T) {
	lease := admit(t, newBudget(), budget.Call{Caller: budget.Caller{'a'}, RPC: "/Get"})
	ctx, cancel := context.WithCancel(lease)
	defer cancel()
	if budget.Of(ctx) != lease || budget.Of(t.Context()) != nil {
		t.Errorf("Of = %p and %p, want %p and nil", budget.Of(ctx), budget.Of(t.Context()), lease)
	}
}

// TestNothingIsLeft has many calls at once. In the end nothing may be held.
func TestNothingIsLeft(t *testing.T) {
	b := newBudget()
	var running sync.WaitGroup
	for i := range 32 {
		running.Go(func() {
			for n := range 500 {
				lease, err := b.Admit(t.Context(), budget.Call{Caller: callerNamed(fmt.Sprint(i % 5)), RPC: fmt.Sprint(n % 3), Write: n%2 == 0, Body: int64(n)})
				if err != nil {
					continue
				}
				if n%3 == 0 {
					_ = lease.Grow(int64(n * 1000))
				}
				lease.Hold(int64(n * 1000))
				if held := b.Held(); held > limit {
					t.Errorf("held = %d", held)
				}
				lease.Release()
			}
		})
	}
	running.Wait()
	if b.Held() != 0 {
		t.Errorf("held = %d, want 0", b.Held())
	}
	// Each caller may use its whole share again.
	for i := range 5 {
		hold(t, b, budget.Call{Caller: callerNamed(fmt.Sprint(i)), RPC: "/List"}, 12*mib).Release()
	}
}

func BenchmarkCall(b *testing.B) {
	all := newBudget()
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			lease, err := all.Admit(ctx, budget.Call{Caller: budget.Caller{'a'}, RPC: "/Get"})
			if err != nil {
				b.Fatal(err)
			}
			lease.Hold(500)
			lease.Release()
		}
	})
}

func callerNamed(name string) (caller budget.Caller) {
	copy(caller[:], name)
	return caller
}
