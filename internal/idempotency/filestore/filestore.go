// Package filestore keeps idempotency records and tickets in a file, for one gateway. A write is
// synced to the disk before it returns.
package filestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
)

const (
	// lockTime is how long to wait for another gateway to let go of the file, as it does when one
	// is replaced by the next.
	lockTime = 2 * time.Second
	// batchDelay is how long a write waits for others that are synced with it.
	batchDelay = time.Millisecond
	// purgeBatch is the maximum number of records that one Purge erases, and that it deletes.
	purgeBatch = 500
	// fileVersion changes when older gateways can no longer read the file.
	fileVersion = "mesh-gateway store 1"
)

// The buckets of the file.
var (
	metaBucket    = []byte("meta")
	recordsBucket = []byte("records") // ID → record
	callersBucket = []byte("callers") // Caller → number of its records
	// Both are in the order of time: time and ID → nothing.
	answersBucket  = []byte("answers")  // finished records that have an answer
	finishedBucket = []byte("finished") // all finished records
	ticketsBucket  = []byte("tickets")  // ID → time of expiry and ticket

	versionKey = []byte("version")
	totalKey   = []byte("total") // the number of records
	ticketKey  = []byte("tickets")
)

// Store implements [idempotency.Store].
type Store struct {
	db     *bbolt.DB
	limits idempotency.Limits
}

// DefaultLimits are those of a store in a file.
func DefaultLimits() idempotency.Limits {
	return idempotency.Limits{PerCaller: 1_500_000, Total: 10_000_000}
}

// Open opens the file, or creates it with mode 0600. Only one Store can have it open.
func Open(path string, limits idempotency.Limits) (*Store, error) {
	_, err := os.Stat(path)
	created := errors.Is(err, fs.ErrNotExist)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTime, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("idempotency store: the file %s is in use by another gateway; a file is for one gateway, and postgres:// is for several", path)
	case err != nil:
		return nil, fmt.Errorf("idempotency store: the file %s cannot be opened: %w", path, err)
	}
	db.MaxBatchDelay = batchDelay
	if err := prepare(db, path, created); err != nil {
		return nil, errors.Join(fmt.Errorf("idempotency store: the file %s cannot be used: %w", path, err), db.Close())
	}
	return &Store{db, limits}, nil
}

func prepare(db *bbolt.DB, path string, created bool) error {
	err := db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{metaBucket, recordsBucket, callersBucket, answersBucket, finishedBucket, ticketsBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(metaBucket)
		if version := meta.Get(versionKey); version != nil && string(version) != fileVersion {
			return fmt.Errorf("it is of another version (%q)", version)
		}
		return meta.Put(versionKey, []byte(fileVersion))
	})
	if err != nil || !created || runtime.GOOS == "windows" {
		return err
	}
	// The entry of a new file in its directory must survive a crash too.
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// Claim implements [idempotency.Store].
func (s *Store) Claim(ctx context.Context, record idempotency.Record, timeout time.Duration) (idempotency.Claim, error) {
	var claim idempotency.Claim
	look := func(tx *bbolt.Tx) (found bool, err error) {
		existing, err := get(tx, record.ID)
		if existing == nil || err != nil {
			return false, err
		}
		claim = idempotency.Claim{}
		if existing.Token != record.Token {
			claim = idempotency.Claim{Existing: existing, Now: time.Now()}
		}
		return true, nil
	}
	// Reading first spares a repeated request the write.
	found := false
	if err := s.view(ctx, func(tx *bbolt.Tx) (err error) {
		found, err = look(tx)
		return err
	}); err != nil || found {
		return claim, err
	}
	err := s.update(ctx, func(tx *bbolt.Tx) error {
		if found, err := look(tx); found || err != nil {
			return err
		}
		claim = idempotency.Claim{}
		switch {
		case number(tx.Bucket(callersBucket), record.Caller[:]) >= s.limits.PerCaller:
			return idempotency.ErrCallerLimit
		case number(tx.Bucket(metaBucket), totalKey) >= s.limits.Total:
			return idempotency.ErrFull
		}
		record.State, record.Created = idempotency.Sent, time.Now()
		record.Deadline = record.Created.Add(timeout)
		return errors.Join(put(tx, &record), count(tx, record.Caller, 1))
	})
	if err != nil {
		return idempotency.Claim{}, err
	}
	return claim, nil
}

// Finish implements [idempotency.Store].
func (s *Store) Finish(ctx context.Context, id idempotency.ID, token idempotency.Token, state idempotency.State, sealed []byte) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		record, err := get(tx, id)
		switch {
		case err != nil:
			return err
		case record == nil || record.Token != token:
			return idempotency.ErrNotClaimed
		case record.State == idempotency.Sent:
			return finish(tx, record, state, sealed)
		case record.State != state:
			return idempotency.ErrNotClaimed
		}
		return nil
	})
}

func finish(tx *bbolt.Tx, record *idempotency.Record, state idempotency.State, sealed []byte) error {
	record.State, record.Sealed, record.Finished = state, sealed, time.Now()
	err := errors.Join(put(tx, record), tx.Bucket(finishedBucket).Put(timeKey(record), nil))
	if sealed != nil {
		err = errors.Join(err, tx.Bucket(answersBucket).Put(timeKey(record), nil))
	}
	return err
}

// Release implements [idempotency.Store].
func (s *Store) Release(ctx context.Context, id idempotency.ID, token idempotency.Token) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		record, err := get(tx, id)
		if err != nil || record == nil || record.Token != token || record.State != idempotency.Sent {
			return err
		}
		return remove(tx, record)
	})
}

// List implements [idempotency.Store]. It holds the selected records in memory.
func (s *Store) List(ctx context.Context, filter idempotency.Filter, yield func(idempotency.Record, time.Time) error) error {
	var list []idempotency.Record
	now := time.Now()
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(recordsBucket).ForEach(func(_, value []byte) error {
			record, err := decode(value)
			if err == nil && filter.Match(record) {
				list = append(list, *record)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b idempotency.Record) int { return a.Created.Compare(b.Created) })
	for _, record := range list {
		if err := yield(record, now); err != nil {
			return err
		}
	}
	return nil
}

// Settle implements [idempotency.Store].
func (s *Store) Settle(ctx context.Context, id idempotency.ID, token idempotency.Token, carriedOut bool) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		record, err := get(tx, id)
		switch {
		case err != nil:
			return err
		case record == nil || record.Token != token || record.State != idempotency.Sent:
			return idempotency.ErrNotClaimed
		case !record.Unknown(time.Now()):
			return idempotency.ErrInFlight
		case carriedOut:
			return finish(tx, record, idempotency.Settled, nil)
		default:
			return remove(tx, record)
		}
	})
}

// Purge implements [idempotency.Store].
func (s *Store) Purge(ctx context.Context) (more bool, err error) {
	now := time.Now()
	var erase, expired [][]byte
	// Reading first spares the write if there is nothing to do.
	if err := s.view(ctx, func(tx *bbolt.Tx) error {
		erase = until(tx.Bucket(answersBucket), now.Add(-idempotency.ReplayTime))
		expired = until(tx.Bucket(finishedBucket), now.Add(-idempotency.Retention))
		return nil
	}); err != nil || len(erase)+len(expired) == 0 {
		return false, err
	}
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		for _, key := range erase {
			record, err := get(tx, idempotency.ID(key[8:]))
			if err != nil {
				return err
			}
			if record != nil {
				record.Sealed = nil
				if err := put(tx, record); err != nil {
					return err
				}
			}
			if err := tx.Bucket(answersBucket).Delete(key); err != nil {
				return err
			}
		}
		for _, key := range expired {
			record, err := get(tx, idempotency.ID(key[8:]))
			if err != nil {
				return err
			}
			if record != nil {
				if err := remove(tx, record); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return len(erase) == purgeBatch || len(expired) == purgeBatch, err
}

// until returns copies of the first keys of a bucket, up to a time.
func until(bucket *bbolt.Bucket, last time.Time) (keys [][]byte) {
	cursor := bucket.Cursor()
	for key, _ := cursor.First(); key != nil && len(keys) < purgeBatch; key, _ = cursor.Next() {
		if timeOf(key).After(last) {
			break
		}
		keys = append(keys, bytes.Clone(key))
	}
	return keys
}

// PutTicket implements [idempotency.Tickets].
func (s *Store) PutTicket(ctx context.Context, id [32]byte, sealed []byte, lifetime time.Duration) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		now := time.Now()
		tickets, meta := tx.Bucket(ticketsBucket), tx.Bucket(metaBucket)
		kept := number(meta, ticketKey)
		if kept >= idempotency.MaxTickets {
			var expired [][]byte
			if err := tickets.ForEach(func(key, value []byte) error {
				if now.After(timeOf(value)) {
					expired = append(expired, bytes.Clone(key))
				}
				return nil
			}); err != nil {
				return err
			}
			for _, key := range expired {
				if err := tickets.Delete(key); err != nil {
					return err
				}
			}
			kept -= len(expired)
		}
		if kept >= idempotency.MaxTickets {
			return idempotency.ErrFull
		}
		return errors.Join(
			setNumber(meta, ticketKey, kept+1),
			tickets.Put(id[:], append(appendTime(nil, now.Add(lifetime)), sealed...)))
	})
}

// TakeTicket implements [idempotency.Tickets].
func (s *Store) TakeTicket(ctx context.Context, id [32]byte) (sealed []byte, ok bool, err error) {
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		sealed, ok = nil, false
		tickets, meta := tx.Bucket(ticketsBucket), tx.Bucket(metaBucket)
		value := tickets.Get(id[:])
		if value == nil {
			return nil
		}
		sealed, ok = bytes.Clone(value[8:]), !time.Now().After(timeOf(value))
		return errors.Join(tickets.Delete(id[:]), setNumber(meta, ticketKey, number(meta, ticketKey)-1))
	})
	if err != nil {
		return nil, false, err
	}
	return sealed, ok, nil
}

// Ping implements [idempotency.Store].
func (s *Store) Ping(ctx context.Context) error {
	return s.view(ctx, func(*bbolt.Tx) error { return nil })
}

// Close implements [idempotency.Store].
func (s *Store) Close() error { return s.db.Close() }

func (s *Store) view(ctx context.Context, read func(*bbolt.Tx) error) error {
	if ctx.Err() != nil {
		return unavailable(ctx.Err())
	}
	return unavailable(s.db.View(read))
}

// update makes a change, together with others that are made at the same time. The change may be
// called several times. A disk that hangs would block it, so update returns at the deadline of ctx
// and leaves the change behind. Then its results must not be used.
func (s *Store) update(ctx context.Context, change func(*bbolt.Tx) error) error {
	done := make(chan error, 1)
	go func() { done <- s.db.Batch(change) }()
	select {
	case err := <-done:
		return unavailable(err)
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}

// unavailable wraps the errors of the file.
func unavailable(err error) error {
	for _, known := range []error{nil, idempotency.ErrNotClaimed, idempotency.ErrInFlight, idempotency.ErrCallerLimit, idempotency.ErrFull} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", idempotency.ErrUnavailable, err)
}

// stored is a record as JSON.
type stored struct {
	ID          []byte            `json:"id"`
	Version     int               `json:"version"`
	Caller      []byte            `json:"caller"`
	Group       string            `json:"group"`
	Method      string            `json:"method"`
	Key         string            `json:"key"`
	Fingerprint []byte            `json:"fingerprint"`
	Token       []byte            `json:"token"`
	State       idempotency.State `json:"state"`
	Created     time.Time         `json:"created"`
	Deadline    time.Time         `json:"deadline"`
	Finished    time.Time         `json:"finished,omitzero"`
	Sealed      []byte            `json:"sealed,omitempty"`
}

func get(tx *bbolt.Tx, id idempotency.ID) (*idempotency.Record, error) {
	value := tx.Bucket(recordsBucket).Get(id[:])
	if value == nil {
		return nil, nil
	}
	return decode(value)
}

func decode(value []byte) (*idempotency.Record, error) {
	var s stored
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, err
	}
	record := &idempotency.Record{
		Version: s.Version, Group: s.Group, Method: s.Method, Key: s.Key, Fingerprint: s.Fingerprint,
		State: s.State, Created: s.Created, Deadline: s.Deadline, Finished: s.Finished, Sealed: s.Sealed,
	}
	if copy(record.ID[:], s.ID) != len(record.ID) || copy(record.Caller[:], s.Caller) != len(record.Caller) ||
		copy(record.Token[:], s.Token) != len(record.Token) {
		return nil, errors.New("a record has an id, a caller or a token of the wrong size")
	}
	return record, nil
}

func put(tx *bbolt.Tx, r *idempotency.Record) error {
	value, err := json.Marshal(stored{
		ID: r.ID[:], Version: r.Version, Caller: r.Caller[:], Group: r.Group, Method: r.Method, Key: r.Key, Fingerprint: r.Fingerprint,
		Token: r.Token[:], State: r.State, Created: r.Created, Deadline: r.Deadline, Finished: r.Finished, Sealed: r.Sealed,
	})
	if err != nil {
		return err
	}
	return tx.Bucket(recordsBucket).Put(r.ID[:], value)
}

func remove(tx *bbolt.Tx, record *idempotency.Record) error {
	err := errors.Join(tx.Bucket(recordsBucket).Delete(record.ID[:]), count(tx, record.Caller, -1))
	if record.State == idempotency.Sent {
		return err
	}
	key := timeKey(record)
	return errors.Join(err, tx.Bucket(answersBucket).Delete(key), tx.Bucket(finishedBucket).Delete(key))
}

// count adds to the numbers of records.
func count(tx *bbolt.Tx, caller idempotency.Caller, n int) error {
	callers, meta := tx.Bucket(callersBucket), tx.Bucket(metaBucket)
	return errors.Join(
		setNumber(callers, caller[:], number(callers, caller[:])+n),
		setNumber(meta, totalKey, number(meta, totalKey)+n))
}

func number(bucket *bbolt.Bucket, key []byte) int {
	value := bucket.Get(key)
	if len(value) != 8 {
		return 0
	}
	return int(binary.BigEndian.Uint64(value))
}

func setNumber(bucket *bbolt.Bucket, key []byte, n int) error {
	if n <= 0 {
		return bucket.Delete(key)
	}
	return bucket.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// timeKey is the key of a finished record in the buckets that are in the order of time.
func timeKey(record *idempotency.Record) []byte {
	return append(appendTime(nil, record.Finished), record.ID[:]...)
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

func timeOf(b []byte) time.Time { return time.Unix(0, int64(binary.BigEndian.Uint64(b))) }
