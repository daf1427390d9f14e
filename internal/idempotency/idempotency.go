// Package idempotency makes it safe to repeat a write. A client that sends an Idempotency-Key with
// a write can repeat the request: it is sent to the Mesh API at most once, and the client receives
// the first answer again (draft-ietf-httpapi-idempotency-key-header-07, expired).
//
// [Keeper.Do] is the protocol, the same for every front of the gateway. A [Store] keeps the
// records; the packages below this one are stores.
//
// # The protocol
//
// A key is scoped to the API key, the group and the method of the request. Together they are the
// [ID] of a record, which is written twice:
//
//	claim ──▶ sent ──▶ call ──▶ done or refused
//	            │        └────▶ released, if Mesh certainly did not carry it out and said "not now"
//	            └─────────────▶ settled, by an operator
//
// The first write comes before the call and is durable. It fails if there is a record, so that of
// any number of requests with the same key, on any number of gateways, one makes the call. It has
// the deadline of the call by the clock of the store. The second comes after the call and before
// the answer.
//
// A record that is still sent when its deadline and the [Margin] have passed reads as unknown: the
// gateway stopped in the middle, or Mesh did not answer. "Unknown" is never stored, because a
// gateway that was only paused can still write the outcome.
//
// # Time
//
// Time never makes a request with a used key executable while it has a record:
//
//   - A record that is sent has no end. An operator settles it ([Store.Settle]).
//   - A finished record replays its answer for [ReplayTime] after it finished. Then its answer is
//     erased, and a request with the key is answered with ALREADY_FINISHED.
//   - A finished record is deleted [Retention] after it finished. Only then is the key new again.
//     A client must not repeat a request for longer than that.
//
// # What a store learns
//
// The answer is encrypted with a key that is derived from the API key of the request, so that only
// a request with that API key can read it: some answers contain API keys. The fingerprint is keyed
// in the same way. The store knows the hash of the API key, the group, the method and the
// Idempotency-Key, with which an operator finds a record.
package idempotency

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

const (
	// Margin is how long after the deadline of its call a record is still in flight. It covers the
	// time that it takes to write the outcome.
	Margin = 15 * time.Second
	// ReplayTime is how long the answer to a finished request is replayed.
	ReplayTime = 24 * time.Hour
	// Retention is how long a finished record is kept, without its answer after ReplayTime.
	Retention = 7 * 24 * time.Hour
)

// RecordVersion is the version of the records that this package writes. Gateways of several
// versions may share a store. One that finds a record of a version it does not know refuses the
// request and sends nothing.
const RecordVersion = 1

// ID identifies a record. It is a hash of the scope and the Idempotency-Key.
type ID [sha256.Size]byte

// String returns the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IDOf returns the ID for an Idempotency-Key of a caller, in a group, for a method.
func IDOf(caller Caller, group, method, key string) ID {
	h := sha256.New()
	h.Write([]byte("mesh-gateway idempotency id 1\x00"))
	h.Write(caller[:])
	for _, part := range []string{group, method, key} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return ID(h.Sum(nil))
}

// Caller is the SHA-256 of an API key. GetAPIUserByKeyHash finds the API user by its base64.
type Caller [sha256.Size]byte

// CallerOf returns the hash of an API key.
func CallerOf(apiKey string) Caller { return sha256.Sum256([]byte(apiKey)) }

// Token identifies the claim of a record. Only who made the claim can finish or release it.
type Token [16]byte

func newToken() (token Token) {
	_, _ = rand.Read(token[:]) // never fails
	return token
}

// State is the state of a record.
type State string

// The states of a record. [Record.Unknown] is a reading of Sent, and not a state.
const (
	// Sent means that the request may have been sent to Mesh.
	Sent State = "sent"
	// Done means that Mesh carried out the request. The record has the reply.
	Done State = "done"
	// Refused means that Mesh refused the request and did not carry it out. The record has the
	// status.
	Refused State = "refused"
	// Settled means that an operator found that the request was carried out. The record has no
	// answer.
	Settled State = "settled"
)

// Record is what a store keeps for an Idempotency-Key. All times are those of the store's clock.
type Record struct {
	ID      ID
	Version int
	// Caller, Group, Method and Key are for operators, and for the limit of a caller. Method is the
	// full gRPC name.
	Caller             Caller
	Group, Method, Key string
	// Fingerprint is that of the request message.
	Fingerprint Fingerprint
	Token       Token
	State       State
	// Created is when the record was claimed, and Deadline is when its call must have ended.
	Created, Deadline time.Time
	// Finished is when the record ceased to be Sent.
	Finished time.Time
	// Sealed is the encrypted answer. It is nil if there is none, if it was too large to keep, or
	// if it was erased after ReplayTime.
	Sealed []byte
}

// Unknown reports whether the outcome of the request is unknown at a time of the store's clock.
func (r *Record) Unknown(now time.Time) bool {
	return r.State == Sent && now.After(r.Deadline.Add(Margin))
}

// Store keeps records. Its methods are safe for concurrent use.
//
// A write that returned nil survives a crash of the gateway, as far as the store promises it. An
// error that is none of those below, or that wraps [ErrUnavailable], says nothing of the effect: a
// write may have taken effect, or may still do so.
type Store interface {
	// Claim stores the record in state Sent with a deadline that is timeout from now, unless there
	// is a record with its ID already. Claim then returns that. Of concurrent calls, one succeeds.
	// It sets Created and Deadline itself. A record with the same Token is the same claim, which
	// was repeated.
	//
	// The error is [ErrCallerLimit] or [ErrFull] if there are too many records.
	Claim(ctx context.Context, record Record, timeout time.Duration) (Claim, error)
	// Finish changes a Sent record to Done or Refused. It does nothing if it was called before with
	// the same token. The error is [ErrNotClaimed] if the claim is no longer there.
	Finish(ctx context.Context, id ID, token Token, state State, sealed []byte) error
	// Release deletes a Sent record. It does nothing if the claim is no longer there.
	Release(ctx context.Context, id ID, token Token) error

	// List calls yield with each record that the filter selects, the oldest first, and with the
	// present time. It ends with the first error of yield.
	List(ctx context.Context, filter Filter, yield func(record Record, now time.Time) error) error
	// Settle ends a claim whose outcome is unknown. A request that was carried out becomes Settled.
	// The record of one that was not is deleted, so that the key can be used again. The error is
	// [ErrNotClaimed] if there is no such claim, or [ErrInFlight] if its call may still run.
	Settle(ctx context.Context, id ID, token Token, carriedOut bool) error

	// Purge erases answers that are older than [ReplayTime] and deletes finished records that are
	// older than [Retention]. It does a limited amount of work and reports whether there is more.
	Purge(ctx context.Context) (more bool, err error)
	// Ping reports whether the store can be used.
	Ping(ctx context.Context) error
	// Close frees what the store holds.
	Close() error

	Tickets
}

// MaxTickets is the maximum number of tickets in a store.
const MaxTickets = 10_000

// Tickets keeps encrypted stream tickets, so that gateways that share a store accept the tickets of
// each other.
type Tickets interface {
	// PutTicket stores a ticket until its lifetime has passed. The error is [ErrFull] if there are
	// MaxTickets that have not expired.
	PutTicket(ctx context.Context, id [32]byte, sealed []byte, lifetime time.Duration) error
	// TakeTicket removes and returns a ticket. Of concurrent calls, one receives it. It reports
	// false if there is no ticket or if it has expired.
	TakeTicket(ctx context.Context, id [32]byte) (sealed []byte, ok bool, err error)
}

// Claim is the result of [Store.Claim].
type Claim struct {
	// Existing is the record that was there already. It is nil if the claim succeeded.
	Existing *Record
	// Now is the time of the store's clock. It is set if Existing is.
	Now time.Time
}

// Filter selects records. The zero Filter selects all.
type Filter struct {
	// Sent selects records that are not finished.
	Sent bool
	// Key selects records with this Idempotency-Key or ID.
	Key string
}

// Match reports whether the filter selects the record.
func (f Filter) Match(r *Record) bool {
	return (!f.Sent || r.State == Sent) && (f.Key == "" || f.Key == r.Key || f.Key == r.ID.String())
}

// Limits bound the number of records in a store. Records are never removed to make room for others.
type Limits struct {
	// PerCaller is the maximum number of records of an API key, and Total that of all.
	PerCaller, Total int
}

// The errors of stores.
var (
	// ErrUnavailable means that the store could not be reached or did not answer.
	ErrUnavailable = errors.New("the idempotency store is unavailable")
	// ErrCallerLimit means that the API key has too many records.
	ErrCallerLimit = errors.New("too many idempotency keys of this API key")
	// ErrFull means that the store has too many records.
	ErrFull = errors.New("the idempotency store is full")
	// ErrNotClaimed means that a claim is not, or no longer, in the store.
	ErrNotClaimed = errors.New("the idempotency key is not claimed")
	// ErrInFlight means that the call of a claim may still run.
	ErrInFlight = errors.New("the request may still be in flight")
)
