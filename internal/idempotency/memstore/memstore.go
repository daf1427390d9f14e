// Package memstore keeps idempotency records and tickets in memory. They are lost when the program
// ends, and other gateways do not see them.
package memstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
)

// purgeBatch is the maximum number of records that one Purge erases, and that it deletes.
const purgeBatch = 1000

// Store implements [idempotency.Store].
type Store struct {
	limits idempotency.Limits

	mu      sync.Mutex
	records map[idempotency.ID]*idempotency.Record
	callers map[idempotency.Caller]int // the number of records of each
	// erase holds the finished records that have an answer, and remove all that are finished, in
	// the order in which they finished.
	erase, remove []*idempotency.Record
	tickets       map[[32]byte]ticket
}

type ticket struct {
	sealed  []byte
	expires time.Time
}

// DefaultLimits are those of a store in memory, where a record takes about a kilobyte.
func DefaultLimits() idempotency.Limits {
	return idempotency.Limits{PerCaller: 100_000, Total: 500_000}
}

// New returns an empty store.
func New(limits idempotency.Limits) *Store {
	return &Store{
		limits:  limits,
		records: make(map[idempotency.ID]*idempotency.Record),
		callers: make(map[idempotency.Caller]int),
		tickets: make(map[[32]byte]ticket),
	}
}

// Claim implements [idempotency.Store].
func (s *Store) Claim(_ context.Context, record idempotency.Record, timeout time.Duration) (idempotency.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch existing := s.records[record.ID]; {
	case existing != nil && existing.Token == record.Token:
		return idempotency.Claim{}, nil
	case existing != nil:
		return idempotency.Claim{Existing: new(*existing), Now: now}, nil
	case s.callers[record.Caller] >= s.limits.PerCaller:
		return idempotency.Claim{}, idempotency.ErrCallerLimit
	case len(s.records) >= s.limits.Total:
		return idempotency.Claim{}, idempotency.ErrFull
	}
	record.State, record.Created, record.Deadline = idempotency.Sent, now, now.Add(timeout)
	s.records[record.ID] = &record
	s.callers[record.Caller]++
	return idempotency.Claim{}, nil
}

// Finish implements [idempotency.Store].
func (s *Store) Finish(_ context.Context, id idempotency.ID, token idempotency.Token, state idempotency.State, sealed []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	record := s.records[id]
	switch {
	case record == nil || record.Token != token:
		return idempotency.ErrNotClaimed
	case record.State == idempotency.Sent:
		s.finish(record, state, sealed)
	case record.State != state:
		return idempotency.ErrNotClaimed
	}
	return nil
}

func (s *Store) finish(record *idempotency.Record, state idempotency.State, sealed []byte) {
	record.State, record.Sealed, record.Finished = state, sealed, time.Now()
	s.remove = append(s.remove, record)
	if sealed != nil {
		s.erase = append(s.erase, record)
	}
}

// Release implements [idempotency.Store].
func (s *Store) Release(_ context.Context, id idempotency.ID, token idempotency.Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if record := s.records[id]; record != nil && record.Token == token && record.State == idempotency.Sent {
		s.delete(record)
	}
	return nil
}

func (s *Store) delete(record *idempotency.Record) {
	delete(s.records, record.ID)
	if s.callers[record.Caller]--; s.callers[record.Caller] == 0 {
		delete(s.callers, record.Caller)
	}
}

// List implements [idempotency.Store].
func (s *Store) List(_ context.Context, filter idempotency.Filter, yield func(idempotency.Record, time.Time) error) error {
	s.mu.Lock()
	now := time.Now()
	var list []idempotency.Record
	for _, record := range s.records {
		if filter.Match(record) {
			list = append(list, *record)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b idempotency.Record) int { return a.Created.Compare(b.Created) })
	for _, record := range list {
		if err := yield(record, now); err != nil {
			return err
		}
	}
	return nil
}

// Settle implements [idempotency.Store].
func (s *Store) Settle(_ context.Context, id idempotency.ID, token idempotency.Token, carriedOut bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	record := s.records[id]
	switch {
	case record == nil || record.Token != token || record.State != idempotency.Sent:
		return idempotency.ErrNotClaimed
	case !record.Unknown(time.Now()):
		return idempotency.ErrInFlight
	case carriedOut:
		s.finish(record, idempotency.Settled, nil)
	default:
		s.delete(record)
	}
	return nil
}

// Purge implements [idempotency.Store].
func (s *Store) Purge(context.Context) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var erased, removed bool
	s.erase, erased = takeOld(s.erase, now.Add(-idempotency.ReplayTime), func(r *idempotency.Record) { r.Sealed = nil })
	s.remove, removed = takeOld(s.remove, now.Add(-idempotency.Retention), s.delete)
	return erased || removed, nil
}

// takeOld calls take with the records that finished at the time or before, and returns the others.
// It stops after purgeBatch, and reports whether it did.
func takeOld(records []*idempotency.Record, before time.Time, take func(*idempotency.Record)) (rest []*idempotency.Record, stopped bool) {
	n := 0
	for n < len(records) && !records[n].Finished.After(before) {
		if n == purgeBatch {
			stopped = true
			break
		}
		take(records[n])
		n++
	}
	return slices.Delete(records, 0, n), stopped
}

// Forget deletes all records. It keeps tickets. A call that is in flight is answered, but its outcome
// is not recorded.
func (s *Store) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.records)
	clear(s.callers)
	s.erase, s.remove = nil, nil
}

// PutTicket implements [idempotency.Tickets].
func (s *Store) PutTicket(_ context.Context, id [32]byte, sealed []byte, lifetime time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if len(s.tickets) >= idempotency.MaxTickets {
		for other, kept := range s.tickets {
			if now.After(kept.expires) {
				delete(s.tickets, other)
			}
		}
	}
	if len(s.tickets) >= idempotency.MaxTickets {
		return idempotency.ErrFull
	}
	s.tickets[id] = ticket{sealed, now.Add(lifetime)}
	return nil
}

// TakeTicket implements [idempotency.Tickets].
func (s *Store) TakeTicket(_ context.Context, id [32]byte) (sealed []byte, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.tickets[id]
	delete(s.tickets, id)
	return kept.sealed, ok && !time.Now().After(kept.expires), nil
}

// Ping implements [idempotency.Store].
func (s *Store) Ping(context.Context) error { return nil }

// Close implements [idempotency.Store].
func (s *Store) Close() error { return nil }
