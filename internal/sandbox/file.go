package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A sandbox can keep its state in a file, a bbolt database with a bucket for
// each collection. What a call changed is written in one transaction, and
// synced, before the call is answered: a crash loses nothing that a client was
// told, and never half of a call.

const (
	// fileVersion changes when older files can no longer be read.
	fileVersion = 1
	metaBucket  = "meta"
	// fileTimeout is how long to wait for another sandbox to let go of the file.
	fileTimeout = time.Second
)

// meta is what a file says of itself.
type meta struct {
	Version int
	// Seed and Ticks continue the walk of the prices.
	Seed, Ticks uint64
	// Runs counts how often the file was opened, so that no key or name that
	// follows from the seed is given twice.
	Runs uint64
}

// lock is the store's: who changed something writes it before letting go.
type lock struct {
	sync.RWMutex
	journal *journal
}

func (l *lock) Unlock() {
	if l.journal != nil {
		l.journal.flush()
	}
	l.RWMutex.Unlock()
}

// journal collects what changed since it was last written. A nil journal is
// that of a sandbox without a file.
type journal struct {
	db      *bbolt.DB
	meta    func() meta
	changes map[place]func() ([]byte, error)
	// wiped is set where all that was written before is void.
	wiped bool
	// err is the first failure to write; nothing is served after it.
	err error
}

// place is where a record is kept: its bucket, and its number in the order of
// creation.
type place struct {
	bucket string
	number uint64
}

func (j *journal) note(at place, encode func() ([]byte, error)) {
	if j != nil {
		j.changes[at] = encode
	}
}

func (j *journal) flush() {
	if j.err != nil || len(j.changes) == 0 && !j.wiped {
		return
	}
	if err := j.db.Update(j.write); err != nil {
		j.err = err
	}
	clear(j.changes)
	j.wiped = false
}

func (j *journal) write(tx *bbolt.Tx) error {
	if j.wiped {
		var names [][]byte
		if err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			names = append(names, slices.Clone(name))
			return nil
		}); err != nil {
			return err
		}
		for _, name := range names {
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
		}
	}
	for at, encode := range j.changes {
		value, err := encode()
		if err != nil {
			return err
		}
		bucket, err := tx.CreateBucketIfNotExists([]byte(at.bucket))
		if err != nil {
			return err
		}
		if err := bucket.Put(binary.BigEndian.AppendUint64(nil, at.number), value); err != nil {
			return err
		}
	}
	bucket, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
	if err != nil {
		return err
	}
	value, err := json.Marshal(j.meta())
	if err != nil {
		return err
	}
	return bucket.Put([]byte(metaBucket), value)
}

// usable refuses calls once the file cannot be written: what would be answered
// could be lost.
func (j *journal) usable() error {
	if j != nil && j.err != nil {
		return status.Errorf(codes.Unavailable, "The sandbox cannot write its file: %s. Restart it with a file that it can write.", j.err)
	}
	return nil
}

// openFile opens a file for the store and reads what it holds; known reports
// whether that is anything.
func (s *store) openFile(path string) (known bool, err error) {
	wrong := func(err error) error { return fmt.Errorf("--sandbox-file %s: %w", path, err) }
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: fileTimeout})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return false, wrong(errors.New("the file is in use by another sandbox"))
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrVersionMismatch), errors.Is(err, bbolterrors.ErrChecksum):
		return false, wrong(fmt.Errorf("this is not a sandbox file (%w); use another file", err))
	case err != nil:
		return false, wrong(err)
	}
	j := &journal{db: db, changes: make(map[place]func() ([]byte, error)), meta: func() meta {
		return meta{Version: fileVersion, Seed: s.seed, Ticks: s.clock.ticks, Runs: s.runs}
	}}
	err = db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(metaBucket))
		if bucket == nil {
			return nil
		}
		known = true
		var found meta
		if err := json.Unmarshal(bucket.Get([]byte(metaBucket)), &found); err != nil {
			return err
		}
		if found.Version != fileVersion {
			return fmt.Errorf("the file has version %d, but this program requires version %d; use another file", found.Version, fileVersion)
		}
		s.seed, s.runs = found.Seed, found.Runs+1
		s.options.ticks = found.Ticks
		s.clear()
		for _, c := range s.collections() {
			if err := c.load(tx); err != nil {
				return err
			}
		}
		s.resume()
		return nil
	})
	if err != nil {
		return false, errors.Join(wrong(err), db.Close())
	}
	s.journal, s.mu.journal = j, j
	for _, c := range s.collections() {
		c.setJournal(j)
	}
	return known, nil
}

// persisted is a collection as the file sees it.
type persisted interface {
	load(tx *bbolt.Tx) error
	setJournal(j *journal)
}

// collections are all of the state.
func (s *state) collections() []persisted {
	return []persisted{
		&s.groups, &s.apiUsers, &s.users, &s.profiles, &s.clients, &s.keys, &s.accounts, &s.wallets, &s.totals,
		&s.transactions, &s.transfers, &s.orders, &s.marketOrders, &s.markets, &s.entries, &s.taps,
	}
}

func (c *collection[T]) setJournal(j *journal) { c.journal = j }

func (c *collection[T]) load(tx *bbolt.Tx) error {
	bucket := tx.Bucket([]byte(c.kind))
	if bucket == nil {
		return nil
	}
	return bucket.ForEach(func(_, value []byte) error {
		r, err := decode[T](value)
		if err != nil {
			return fmt.Errorf("%s: %w", c.kind, err)
		}
		return c.put(r)
	})
}

// encode writes a resource as protobuf and what is the sandbox's own as JSON.
func encode[T record](r T) ([]byte, error) {
	if message, ok := any(r).(proto.Message); ok {
		return proto.Marshal(message)
	}
	return json.Marshal(r)
}

func decode[T record](value []byte) (r T, err error) {
	message, ok := any(r).(proto.Message)
	if !ok {
		return r, json.Unmarshal(value, &r)
	}
	message = message.ProtoReflect().New().Interface()
	return message.(T), proto.Unmarshal(value, message)
}

// resume finds what time has yet to move on, oldest first.
func (s *store) resume() {
	for _, name := range s.transactions.order {
		if _, more := nextTransactionState(s.transactions.byName[name].State); more {
			s.active = append(s.active, name)
		}
	}
	for _, name := range s.orders.order {
		if !final(s.orders.byName[name]) {
			s.active = append(s.active, name)
		}
	}
	// A ULID begins with the time.
	slices.SortStableFunc(s.active, func(a, b string) int {
		return strings.Compare(a[strings.Index(a, "/"):], b[strings.Index(b, "/"):])
	})
}
