package store

import (
	"errors"

	"github.com/hashicorp/go-memdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Tx is a transaction. It must not be used after the function that received it has returned.
type Tx struct {
	store  *Store
	txn    *memdb.Txn
	writes bool
	// changes are in the order in which they were made.
	changes []change
	// usage is that of the tables which were changed.
	usage map[*table]usage
	// reset is set if the transaction replaces everything. Streams then end with ended.
	reset bool
	ended error
}

// change is that of one record. Before is nil if it was created.
type change struct {
	table         *table
	before, after *row
}

// usage is how much of its bounds a table uses.
type usage struct{ records, bytes int }

// Try calls do, and takes back what do changed if it fails. The transaction can go on either way.
func (tx *Tx) Try(do func() error) error {
	mark := len(tx.changes)
	err := do()
	if err == nil {
		return nil
	}
	for len(tx.changes) > mark {
		last := tx.changes[len(tx.changes)-1]
		if undone := tx.apply(last.table, last.after, last.before); undone != nil {
			return errors.Join(err, undone)
		}
		tx.changes = tx.changes[:len(tx.changes)-1]
	}
	return err
}

// put makes a change.
func (tx *Tx) put(t *table, before, after *row) error {
	if !tx.writes {
		return errors.New("store: a transaction that reads cannot write")
	}
	if err := tx.apply(t, before, after); err != nil {
		return err
	}
	tx.changes = append(tx.changes, change{t, before, after})
	return nil
}

// apply replaces one row by another. Either may be nil.
func (tx *Tx) apply(t *table, before, after *row) error {
	now := tx.used(t)
	if before != nil {
		now.records--
		now.bytes -= before.size
	}
	if after != nil {
		now.records++
		now.bytes += after.size
		if err := tx.txn.Insert(t.name, after); err != nil {
			return err
		}
	} else if err := tx.txn.Delete(t.name, before); err != nil {
		return err
	}
	tx.usage[t] = now
	return nil
}

// used is what a table uses in this transaction.
func (tx *Tx) used(t *table) usage {
	if now, ok := tx.usage[t]; ok || tx.reset {
		return now
	}
	return tx.store.usage[t]
}

// admit returns an error if a table has grown over its bounds. A table that is over them and does
// not grow is no reason to refuse a call.
func (tx *Tx) admit() error {
	for _, t := range tx.store.tables {
		var before usage
		if !tx.reset {
			before = tx.store.usage[t]
		}
		now := tx.used(t)
		if now.records > before.records && now.records > t.limit {
			return status.Errorf(codes.ResourceExhausted,
				"The sandbox is full: it cannot store more than %d %s. Reset it with POST /sandbox:reset.", t.limit, t.name)
		}
		if limit := tx.store.config.Bytes; now.bytes > before.bytes && now.bytes > limit {
			return status.Errorf(codes.ResourceExhausted,
				"The sandbox is full: its %s cannot use more than %d MiB. Reset it with POST /sandbox:reset.", t.name, limit>>20)
		}
	}
	return nil
}
