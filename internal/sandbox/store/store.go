// Package store keeps typed records in memory and changes them in transactions. It is built on
// go-memdb and adds what the sandbox needs on top: tables of one type, a bound on what callers can
// create, a feed of changes, and a file.
//
// A transaction sees its own changes and a snapshot of all others. It is committed as a whole or
// not at all. One transaction writes at a time; those that only read wait for nobody. The file and
// the feed follow the commits: a commit is in the file before anyone can see it.
//
// Errors are gRPC statuses where a caller is to be told, that of a full table for example.
package store

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-memdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Config configures a [Store].
type Config struct {
	// Records is the maximum number of records in a table.
	Records int
	// Bytes is the maximum size of all records in a table, in bytes.
	Bytes int
	// File is the path of the file that keeps the records. If it is empty, nothing is kept.
	File string
	// Version is that of the records. A file of another version is refused.
	Version int
	// NoSync does not wait until a commit is on the disk, so that a crash of the machine may damage
	// the file. It makes tests fast.
	NoSync bool
}

// Store is a set of tables. Define the tables with [NewTable], then call [Store.Open].
type Store struct {
	config Config
	tables []*table
	db     atomic.Pointer[memdb.MemDB]

	// writing is held by the transaction that writes. It guards usage and file.
	writing  sync.Mutex
	usage    map[*table]usage
	file     *file
	watchers watchers
}

// New returns a store without tables.
func New(config Config) *Store {
	return &Store{config: config, usage: make(map[*table]usage), watchers: watchers{open: make(map[watched]map[*watcher]struct{})}}
}

// Open opens the store, with the records of its file if there are any. It reports whether there
// are. The caller must close the store unless Open returns an error.
func (s *Store) Open() (found bool, err error) {
	db, err := s.newDB()
	if err != nil {
		return false, err
	}
	if s.config.File != "" {
		if s.file, err = openFile(s.config); err != nil {
			return false, err
		}
		tx := &Tx{store: s, txn: db.Txn(true), usage: make(map[*table]usage)}
		if found, err = s.file.load(s.tables, tx); err != nil {
			tx.txn.Abort()
			return false, joinClose(err, s.file)
		}
		tx.txn.Commit()
		s.usage = tx.usage
	}
	s.db.Store(db)
	return found, nil
}

// Close closes the file.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.file == nil {
		return nil
	}
	return s.file.close()
}

func (s *Store) newDB() (*memdb.MemDB, error) {
	schema := &memdb.DBSchema{Tables: make(map[string]*memdb.TableSchema)}
	for _, t := range s.tables {
		schema.Tables[t.name] = t.schema()
	}
	db, err := memdb.NewMemDB(schema)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return db, nil
}

// View calls do with a transaction that reads. It returns what do returns.
func View[R any](s *Store, do func(*Tx) (R, error)) (R, error) {
	return do(&Tx{store: s, txn: s.db.Load().Txn(false)})
}

// Update calls do with a transaction and commits it if do succeeds. If do fails, or if a table
// would be larger than it may be, nothing is changed. The error is RESOURCE_EXHAUSTED if there is
// no room, and UNAVAILABLE if the file cannot be written.
func Update[R any](s *Store, do func(*Tx) (R, error)) (R, error) {
	var result R
	err := s.write(s.db.Load(), func(tx *Tx) (err error) {
		if result, err = do(tx); err != nil {
			return err
		}
		return tx.admit()
	})
	if err != nil {
		var none R
		return none, err
	}
	return result, nil
}

// Continue is Update for what follows from changes that were admitted before. It never fails for
// lack of room.
func (s *Store) Continue(do func(*Tx) error) error {
	return s.write(s.db.Load(), do)
}

// Reset replaces all records by those that seed creates, in one commit. Streams of [Watch] end with
// the error ended.
func (s *Store) Reset(seed func(*Tx) error, ended error) error {
	db, err := s.newDB()
	if err != nil {
		return err
	}
	return s.write(db, func(tx *Tx) error {
		tx.reset, tx.ended = true, ended
		if err := seed(tx); err != nil {
			return err
		}
		return tx.admit()
	})
}

// write commits what do changes, or nothing if do fails or panics.
func (s *Store) write(db *memdb.MemDB, do func(*Tx) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	tx := &Tx{store: s, txn: db.Txn(true), writes: true, usage: make(map[*table]usage)}
	defer tx.txn.Abort() // does nothing after a commit
	if err := do(tx); err != nil {
		return err
	}
	if s.file != nil {
		if err := s.file.write(tx.changes, tx.reset); err != nil {
			return status.Errorf(codes.Unavailable, "The sandbox cannot write its file: %s. Nothing was changed.", err)
		}
	}
	tx.txn.Commit()
	if tx.reset {
		s.usage = tx.usage
		s.db.Store(db)
		s.watchers.end(tx.ended)
		return nil
	}
	for t, now := range tx.usage {
		s.usage[t] = now
	}
	for _, change := range tx.changes {
		s.watchers.notify(change.table, change.after.record)
	}
	return nil
}
