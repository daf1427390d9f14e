package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// file is a bbolt database with a bucket for each table. A commit is one transaction of it, and is
// synced before it is visible: a crash loses nothing that a caller was told, and keeps no part of a
// commit.
type file struct {
	db *bbolt.DB
	// unwritten are the changes of lazy tables since the file was written.
	unwritten map[place]Record
}

// place is where a record is kept: its table, and its number in the order of creation.
type place struct {
	table  *table
	number uint64
}

const (
	metaBucket = "meta"
	// openTimeout is how long to wait for another process to close the file.
	openTimeout = time.Second
)

// meta is what a file says of itself.
type meta struct{ Version int }

func openFile(config Config) (*file, error) {
	db, err := bbolt.Open(config.File, 0o600, &bbolt.Options{Timeout: openTimeout, NoSync: config.NoSync})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, errors.New("the file is in use by another sandbox")
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrVersionMismatch), errors.Is(err, bbolterrors.ErrChecksum):
		return nil, fmt.Errorf("this is not a sandbox file (%w); use another file", err)
	case err != nil:
		return nil, err
	}
	f := &file{db: db, unwritten: make(map[place]Record)}
	if err := db.Update(func(tx *bbolt.Tx) error { return checkVersion(tx, config.Version) }); err != nil {
		return nil, joinClose(err, f)
	}
	return f, nil
}

// checkVersion returns an error if the file has another version. A new file gets this one.
func checkVersion(tx *bbolt.Tx, version int) error {
	if bucket := tx.Bucket([]byte(metaBucket)); bucket != nil {
		var found meta
		if err := json.Unmarshal(bucket.Get([]byte(metaBucket)), &found); err != nil {
			return err
		}
		if found.Version != version {
			return fmt.Errorf("the file has version %d, but this program requires version %d; use another file", found.Version, version)
		}
		return nil
	}
	bucket, err := tx.CreateBucket([]byte(metaBucket))
	if err != nil {
		return err
	}
	value, err := json.Marshal(meta{version})
	if err != nil {
		return err
	}
	return bucket.Put([]byte(metaBucket), value)
}

// load reads all records into a transaction and reports whether there are any.
func (f *file) load(tables []*table, into *Tx) (found bool, err error) {
	err = f.db.View(func(tx *bbolt.Tx) error {
		for _, t := range tables {
			bucket := tx.Bucket([]byte(t.name))
			if bucket == nil {
				continue
			}
			if err := bucket.ForEach(func(key, value []byte) error {
				r, err := t.decode(value)
				if err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
				found = true
				return into.apply(t, nil, t.row(binary.BigEndian.Uint64(key), r))
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// write writes the changes of one commit, in place of all that was there if reset is set.
func (f *file) write(changes []change, reset bool) error {
	records := make(map[place]Record)
	if !reset {
		maps.Copy(records, f.unwritten)
	}
	due := reset
	for _, c := range changes {
		records[place{c.table, c.after.number}] = c.after.record
		due = due || !c.table.lazy
	}
	if !due {
		f.unwritten = records
		return nil
	}
	if err := f.db.Update(func(tx *bbolt.Tx) error {
		if reset {
			if err := deleteRecords(tx); err != nil {
				return err
			}
		}
		return writeRecords(tx, records)
	}); err != nil {
		return err
	}
	clear(f.unwritten)
	return nil
}

func deleteRecords(tx *bbolt.Tx) error {
	var names [][]byte
	if err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		if string(name) != metaBucket {
			names = append(names, slices.Clone(name))
		}
		return nil
	}); err != nil {
		return err
	}
	for _, name := range names {
		if err := tx.DeleteBucket(name); err != nil {
			return err
		}
	}
	return nil
}

func writeRecords(tx *bbolt.Tx, records map[place]Record) error {
	for at, r := range records {
		value, err := encode(r)
		if err != nil {
			return err
		}
		bucket, err := tx.CreateBucketIfNotExists([]byte(at.table.name))
		if err != nil {
			return err
		}
		if err := bucket.Put(binary.BigEndian.AppendUint64(nil, at.number), value); err != nil {
			return err
		}
	}
	return nil
}

// close writes what is unwritten and closes the file.
func (f *file) close() error {
	err := f.db.Update(func(tx *bbolt.Tx) error { return writeRecords(tx, f.unwritten) })
	return errors.Join(err, f.db.Close())
}

// joinClose closes a file because of an error.
func joinClose(err error, f *file) error { return errors.Join(err, f.db.Close()) }
