// Package storetest tests what every idempotency store must do.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// Harness is how the tests use a kind of store.
type Harness struct {
	// Run runs a test, for example in a bubble of testing/synctest.
	Run func(t *testing.T, test func(t *testing.T))
	// Open opens an empty store until the test ends.
	Open func(t *testing.T, limits idempotency.Limits) idempotency.Store
	// Reopen opens the store again, as the next gateway does. It is nil if the store forgets.
	Reopen func(t *testing.T, store idempotency.Store) idempotency.Store
	// Pass lets time pass for the store.
	Pass func(t *testing.T, store idempotency.Store, by time.Duration)
}

// Limits are for tests that do not reach them.
func Limits() idempotency.Limits { return idempotency.Limits{PerCaller: 100, Total: 1000} }

// Test tests a kind of store.
func Test(t *testing.T, h Harness) {
	for _, test := range []struct {
		name string
		test func(s suite)
	}{
		{"a claim is made once", suite.claimOnce},
		{"a repeated claim is the same claim", suite.repeatedClaim},
		{"of many claims one succeeds", suite.manyClaims},
		{"a record has what was claimed", suite.fields},
		{"an outcome is written once", suite.finish},
		{"only the owner of a claim ends it", suite.owner},
		{"a released key is new", suite.release},
		{"a record becomes unknown after its deadline and the margin", suite.unknown},
		{"a record that is sent is never purged", suite.sentStays},
		{"an answer is erased after the replay time, and a record deleted after its retention", suite.purge},
		{"records are listed by state and key, the oldest first", suite.list},
		{"an operator settles what is unknown", suite.settle},
		{"the number of records is bounded", suite.limits},
		{"a ticket can be taken once", suite.ticketOnce},
		{"a ticket expires", suite.ticketExpires},
		{"the number of tickets is bounded", suite.ticketLimit},
		{"keepers that share a store make one call", suite.keepers},
		{"a refusal is replayed with its status", suite.refusal},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.Run(t, func(t *testing.T) { test.test(suite{t, h, h.Open(t, Limits())}) })
		})
	}
	if h.Reopen != nil {
		t.Run("records survive the gateway", func(t *testing.T) {
			h.Run(t, func(t *testing.T) { suite{t, h, h.Open(t, Limits())}.survive() })
		})
	}
}

// suite is one test.
type suite struct {
	*testing.T
	Harness
	store idempotency.Store
}

// record returns a record whose key, caller and token follow from the names.
func record(caller, key, token string) idempotency.Record {
	r := idempotency.Record{
		Version: idempotency.RecordVersion, Caller: idempotency.CallerOf(caller), Group: "groups/" + caller,
		Method: "/package.Service/Method", Key: key, Fingerprint: idempotency.Fingerprint("fingerprint of " + key), State: idempotency.Sent,
	}
	r.ID = idempotency.IDOf(r.Caller, r.Group, r.Method, r.Key)
	copy(r.Token[:], token)
	return r
}

func (s suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s suite) want(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error %v, want %v", err, want)
	}
}

// claim claims the record and returns the one that is there.
func (s suite) claim(r idempotency.Record) *idempotency.Record {
	s.Helper()
	claim, err := s.store.Claim(s.Context(), r, 30*time.Second)
	s.must(err)
	return claim.Existing
}

func (s suite) all(filter idempotency.Filter) (records []idempotency.Record, now time.Time) {
	s.Helper()
	s.must(s.store.List(s.Context(), filter, func(r idempotency.Record, at time.Time) error {
		records, now = append(records, r), at
		return nil
	}))
	return records, now
}

func (s suite) claimOnce() {
	if s.claim(record("x", "a", "1")) != nil {
		s.Error("the first claim found a record")
	}
	existing := s.claim(record("x", "a", "2"))
	if existing == nil || existing.Token != record("x", "a", "1").Token {
		s.Errorf("the second claim found %v", existing)
	}
	for _, other := range []idempotency.Record{record("x", "b", "3"), record("y", "a", "4")} {
		if s.claim(other) != nil {
			s.Error("another key or caller found a record")
		}
	}
}

func (s suite) repeatedClaim() {
	r := record("x", "a", "1")
	for range 2 {
		if s.claim(r) != nil {
			s.Error("a claim that is repeated with its token found a record")
		}
	}
	if all, _ := s.all(idempotency.Filter{}); len(all) != 1 {
		s.Errorf("%d records", len(all))
	}
}

func (s suite) manyClaims() {
	var won atomic.Int32
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			claim, err := s.store.Claim(s.Context(), record("x", "a", fmt.Sprint(i)), 30*time.Second)
			if err != nil {
				s.Error(err)
			}
			if claim.Existing == nil {
				won.Add(1)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		s.Errorf("%d claims succeeded", won.Load())
	}
}

func (s suite) fields() {
	want := record("x", "a", "1")
	s.claim(want)
	got := s.claim(record("x", "a", "2"))
	if got.ID != want.ID || got.Version != want.Version || got.Caller != want.Caller || got.Group != want.Group || got.Method != want.Method ||
		got.Key != want.Key || string(got.Fingerprint) != string(want.Fingerprint) || got.State != idempotency.Sent || got.Sealed != nil || !got.Finished.IsZero() {
		s.Errorf("%+v, want %+v", got, want)
	}
	if timeout := got.Deadline.Sub(got.Created); timeout != 30*time.Second {
		s.Errorf("the deadline is %s after the claim", timeout)
	}
}

func (s suite) finish() {
	r := record("x", "a", "1")
	s.claim(r)
	for range 2 {
		s.must(s.store.Finish(s.Context(), r.ID, r.Token, idempotency.Done, []byte("answer")))
	}
	s.want(s.store.Finish(s.Context(), r.ID, r.Token, idempotency.Refused, []byte("other")), idempotency.ErrNotClaimed)
	s.must(s.store.Release(s.Context(), r.ID, r.Token))
	got := s.claim(record("x", "a", "2"))
	if got == nil || got.State != idempotency.Done || string(got.Sealed) != "answer" || got.Finished.IsZero() {
		s.Errorf("%+v", got)
	}
}

func (s suite) owner() {
	r, other := record("x", "a", "1"), record("x", "a", "2")
	s.claim(r)
	s.want(s.store.Finish(s.Context(), r.ID, other.Token, idempotency.Done, []byte("answer")), idempotency.ErrNotClaimed)
	s.must(s.store.Release(s.Context(), r.ID, other.Token))
	missing := record("x", "b", "1")
	s.want(s.store.Finish(s.Context(), missing.ID, missing.Token, idempotency.Done, nil), idempotency.ErrNotClaimed)
	if got := s.claim(other); got == nil || got.State != idempotency.Sent {
		s.Errorf("somebody else ended the claim: %+v", got)
	}
}

func (s suite) release() {
	r := record("x", "a", "1")
	s.claim(r)
	for range 2 {
		s.must(s.store.Release(s.Context(), r.ID, r.Token))
	}
	s.want(s.store.Finish(s.Context(), r.ID, r.Token, idempotency.Done, nil), idempotency.ErrNotClaimed)
	if s.claim(record("x", "a", "2")) != nil {
		s.Error("the record is still there")
	}
}

func (s suite) unknown() {
	r := record("x", "a", "1")
	s.claim(r)
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{0, false}, {44 * time.Second, false}, {2 * time.Second, true}, {10 * idempotency.Retention, true}} {
		s.Pass(s.T, s.store, step.after)
		claim, err := s.store.Claim(s.Context(), record("x", "a", "2"), time.Second)
		s.must(err)
		if claim.Existing == nil || claim.Existing.State != idempotency.Sent {
			s.Fatalf("found %v: time changed the record", claim.Existing)
		}
		if got := claim.Existing.Unknown(claim.Now); got != step.want {
			s.Errorf("after another %s: unknown %t", step.after, got)
		}
	}
	// A gateway that was paused can still write the outcome.
	s.must(s.store.Finish(s.Context(), r.ID, r.Token, idempotency.Done, []byte("answer")))
	if got := s.claim(record("x", "a", "2")); got.State != idempotency.Done {
		s.Errorf("%+v", got)
	}
}

func (s suite) purgeAll() {
	s.Helper()
	for {
		more, err := s.store.Purge(s.Context())
		s.must(err)
		if !more {
			return
		}
	}
}

func (s suite) sentStays() {
	s.claim(record("x", "a", "1"))
	s.Pass(s.T, s.store, 10*idempotency.Retention)
	s.purgeAll()
	if s.claim(record("x", "a", "2")) == nil {
		s.Error("time made a key executable")
	}
}

func (s suite) purge() {
	done, settled := record("x", "a", "1"), record("x", "b", "1")
	s.claim(done)
	s.must(s.store.Finish(s.Context(), done.ID, done.Token, idempotency.Done, []byte("answer")))
	s.claim(settled)
	s.Pass(s.T, s.store, time.Hour)
	s.must(s.store.Settle(s.Context(), settled.ID, settled.Token, true))

	for _, step := range []struct {
		after        time.Duration
		answer, kept bool
	}{
		{22*time.Hour + 59*time.Minute, true, true},
		{2 * time.Minute, false, true},
		{idempotency.Retention - idempotency.ReplayTime - 2*time.Minute, false, true},
		{2 * time.Minute, false, false},
	} {
		s.Pass(s.T, s.store, step.after)
		s.purgeAll()
		all, _ := s.all(idempotency.Filter{Key: "a"})
		if len(all) == 1 != step.kept || step.kept && (all[0].Sealed != nil) != step.answer {
			s.Fatalf("after another %s: %+v", step.after, all)
		}
	}
	if all, _ := s.all(idempotency.Filter{Key: "b"}); len(all) != 1 {
		s.Error("the record that was settled later is gone")
	}
	s.Pass(s.T, s.store, time.Hour)
	s.purgeAll()
	if all, _ := s.all(idempotency.Filter{}); len(all) != 0 {
		s.Errorf("%+v", all)
	}
	if s.claim(record("x", "a", "2")) != nil {
		s.Error("the key is not new")
	}
}

func (s suite) list() {
	for i, key := range []string{"b", "a", "c"} {
		r := record("x", key, "1")
		s.claim(r)
		if i == 1 {
			s.must(s.store.Finish(s.Context(), r.ID, r.Token, idempotency.Refused, []byte("answer")))
		}
		s.Pass(s.T, s.store, time.Second)
	}
	s.claim(record("y", "a", "1"))
	for _, test := range []struct {
		filter idempotency.Filter
		want   []string
	}{
		{idempotency.Filter{}, []string{"b", "a", "c", "a"}},
		{idempotency.Filter{Sent: true}, []string{"b", "c", "a"}},
		{idempotency.Filter{Key: "a"}, []string{"a", "a"}},
		{idempotency.Filter{Key: "a", Sent: true}, []string{"a"}},
		{idempotency.Filter{Key: record("x", "c", "1").ID.String()}, []string{"c"}},
		{idempotency.Filter{Key: "d"}, nil},
	} {
		all, _ := s.all(test.filter)
		var keys []string
		for _, r := range all {
			keys = append(keys, r.Key)
		}
		if !slices.Equal(keys, test.want) {
			s.Errorf("%+v: %q, want %q", test.filter, keys, test.want)
		}
	}
	enough := errors.New("enough")
	calls := 0
	s.want(s.store.List(s.Context(), idempotency.Filter{}, func(idempotency.Record, time.Time) error { calls++; return enough }), enough)
	if calls != 1 {
		s.Errorf("%d records after an error", calls)
	}
}

func (s suite) settle() {
	done, not, other := record("x", "done", "1"), record("x", "not", "1"), record("x", "not", "2")
	s.claim(done)
	s.claim(not)
	s.want(s.store.Settle(s.Context(), not.ID, not.Token, false), idempotency.ErrInFlight)
	s.Pass(s.T, s.store, 30*time.Second+idempotency.Margin+time.Second)
	s.want(s.store.Settle(s.Context(), not.ID, other.Token, false), idempotency.ErrNotClaimed)
	s.must(s.store.Settle(s.Context(), not.ID, not.Token, false))
	s.must(s.store.Settle(s.Context(), done.ID, done.Token, true))
	s.want(s.store.Settle(s.Context(), done.ID, done.Token, false), idempotency.ErrNotClaimed)

	if s.claim(other) != nil {
		s.Error("a request that was not carried out is still there")
	}
	// The gateway that was thought to be gone has nothing to say about the new claim.
	s.want(s.store.Finish(s.Context(), not.ID, not.Token, idempotency.Done, nil), idempotency.ErrNotClaimed)
	s.want(s.store.Finish(s.Context(), done.ID, done.Token, idempotency.Done, nil), idempotency.ErrNotClaimed)
	if got := s.claim(record("x", "done", "2")); got == nil || got.State != idempotency.Settled || got.Sealed != nil {
		s.Errorf("%+v", got)
	}
}

func (s suite) limits() {
	s.store = s.Open(s.T, idempotency.Limits{PerCaller: 2, Total: 3})
	claim := func(caller, key string) error {
		_, err := s.store.Claim(s.Context(), record(caller, key, "1"), time.Second)
		return err
	}
	s.must(claim("x", "a"))
	s.must(claim("x", "b"))
	s.want(claim("x", "c"), idempotency.ErrCallerLimit)
	s.must(claim("y", "a"))
	s.want(claim("z", "a"), idempotency.ErrFull)
	if s.claim(record("x", "a", "2")) == nil {
		s.Error("a record was removed to make room")
	}
	// Each way to remove a record makes room.
	a := record("x", "a", "1")
	s.must(s.store.Release(s.Context(), a.ID, a.Token))
	s.must(claim("z", "a"))
	s.want(claim("x", "c"), idempotency.ErrFull)
	b := record("x", "b", "1")
	s.must(s.store.Finish(s.Context(), b.ID, b.Token, idempotency.Done, []byte("answer")))
	s.want(claim("x", "c"), idempotency.ErrFull)
	s.Pass(s.T, s.store, idempotency.Retention+time.Second)
	s.purgeAll()
	s.must(claim("x", "c"))
	z := record("z", "a", "1")
	s.must(s.store.Settle(s.Context(), z.ID, z.Token, false))
	s.must(claim("z", "b"))
}

func (s suite) survive() {
	done, sent := record("x", "a", "1"), record("x", "b", "1")
	s.claim(done)
	s.claim(sent)
	s.must(s.store.Finish(s.Context(), done.ID, done.Token, idempotency.Done, []byte("answer")))
	s.store = s.Reopen(s.T, s.store)
	if got := s.claim(record("x", "a", "2")); got == nil || got.State != idempotency.Done || string(got.Sealed) != "answer" {
		s.Errorf("%+v", got)
	}
	if got := s.claim(record("x", "b", "2")); got == nil || got.State != idempotency.Sent {
		s.Errorf("%+v", got)
	}
	s.must(s.store.Finish(s.Context(), sent.ID, sent.Token, idempotency.Done, []byte("answer")))
}

func (s suite) ticketOnce() {
	id := sha256.Sum256([]byte("ticket"))
	if _, ok, err := s.store.TakeTicket(s.Context(), id); ok || err != nil {
		s.Errorf("a ticket that was not stored: %t, %v", ok, err)
	}
	s.must(s.store.PutTicket(s.Context(), id, []byte("sealed"), time.Minute))
	var taken atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			sealed, ok, err := s.store.TakeTicket(s.Context(), id)
			if err != nil || ok && string(sealed) != "sealed" {
				s.Errorf("%q, %v", sealed, err)
			}
			if ok {
				taken.Add(1)
			}
		})
	}
	group.Wait()
	if taken.Load() != 1 {
		s.Errorf("the ticket was taken %d times", taken.Load())
	}
}

func (s suite) ticketExpires() {
	for i, test := range []struct {
		after time.Duration
		want  bool
	}{{29 * time.Second, true}, {31 * time.Second, false}} {
		id := sha256.Sum256([]byte{byte(i)})
		s.must(s.store.PutTicket(s.Context(), id, []byte("sealed"), 30*time.Second))
		s.Pass(s.T, s.store, test.after)
		if _, ok, err := s.store.TakeTicket(s.Context(), id); ok != test.want || err != nil {
			s.Errorf("after %s: %t, %v", test.after, ok, err)
		}
	}
}

func (s suite) ticketLimit() {
	put := func(i int) error {
		return s.store.PutTicket(s.Context(), sha256.Sum256(fmt.Append(nil, i)), []byte("sealed"), 30*time.Second)
	}
	var group sync.WaitGroup
	for start := range 100 {
		group.Go(func() {
			for i := start; i < idempotency.MaxTickets; i += 100 {
				if err := put(i); err != nil {
					s.Error(err)
				}
			}
		})
	}
	group.Wait()
	s.want(put(idempotency.MaxTickets), idempotency.ErrFull)
	if _, ok, err := s.store.TakeTicket(s.Context(), sha256.Sum256(fmt.Append(nil, 0))); !ok || err != nil {
		s.Errorf("%t, %v", ok, err)
	}
	s.must(put(0))
	s.want(put(idempotency.MaxTickets), idempotency.ErrFull)
	s.Pass(s.T, s.store, 31*time.Second)
	s.must(put(idempotency.MaxTickets)) // in place of those that have expired
}

// request returns a request with a key. It has a message of its own.
func request(key string) idempotency.Request {
	return idempotency.Request{
		Key: key, APIKey: "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG", Group: "groups/01ARZ3NDEKTSV4RRFFQ69G5FAV",
		Method:  "/meshtrade.wallet.transfer.v1.TransferService/CreateTransfer",
		Message: &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{From: "a", To: "b"}},
	}
}

func (s suite) keepers() {
	var calls atomic.Int32
	call := func(context.Context) idempotency.Outcome {
		calls.Add(1)
		return idempotency.Replied([]byte("reply"))
	}
	const keys = 5
	var group sync.WaitGroup
	for range 3 {
		keeper := idempotency.NewKeeper(s.store, slog.New(slog.DiscardHandler))
		for i := range 10 * keys {
			group.Go(func() {
				for {
					answer, err := keeper.Do(s.Context(), request(fmt.Sprint(i%keys)), call)
					if apierror.ReasonOf(err) == string(apierror.IdempotencyKeyInUse) {
						time.Sleep(10 * time.Millisecond) // as a client waits for Retry-After
						continue
					}
					if err != nil || string(answer.Reply) != "reply" {
						s.Errorf("%q, %v", answer.Reply, err)
					}
					return
				}
			})
		}
	}
	group.Wait()
	if calls.Load() != keys {
		s.Errorf("%d calls for %d keys", calls.Load(), keys)
	}
}

func (s suite) refusal() {
	keeper := idempotency.NewKeeper(s.store, slog.New(slog.DiscardHandler))
	for i := range 2 {
		answer, err := keeper.Do(s.Context(), request("a"), func(context.Context) idempotency.Outcome {
			return idempotency.RefusedByMesh(status.Error(codes.FailedPrecondition, "no funds"))
		})
		if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "no funds" || answer.Replayed != (i == 1) {
			s.Errorf("%+v, %v", answer, err)
		}
	}
}
