package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/hashicorp/go-memdb"
	"google.golang.org/protobuf/proto"
)

// Record is what a table holds. A record in the store is never changed: an update puts a changed
// copy in its place, so that everyone who has it can go on reading it. The JSON of a record, or the
// wire form if it is a protobuf message, is what the file keeps.
type Record interface {
	// GetName is unique in the table.
	GetName() string
	// GetOwner and GetOwners are the owner of the record and the path to it from the root.
	GetOwner() string
	GetOwners() []string
}

// TableOptions configure a table.
type TableOptions[T Record] struct {
	// Limit is the maximum number of records if it is less than that of the store.
	Limit int
	// Keys returns other names that find a record. Those that are empty find nothing. A key of two
	// records finds the one that was created first. The keys of a record must not change.
	Keys func(T) []string
	// Pending reports whether a record has yet to reach its final state.
	Pending func(T) bool
	// Lazy tables are written to the file with the next change of another table.
	Lazy bool
}

// Table is a table of records, in the order of their creation. Records are not deleted.
type Table[T Record] struct{ *table }

// table is what all tables have in common.
type table struct {
	name    string
	limit   int
	keys    func(Record) []string
	pending func(Record) bool
	lazy    bool
	decode  func([]byte) (Record, error)
}

// NewTable adds a table to a store that is not open yet. The name is that of the records in errors
// and of the bucket in the file.
func NewTable[T Record](s *Store, name string, options TableOptions[T]) Table[T] {
	t := &table{
		name: name, limit: s.config.Records, lazy: options.Lazy,
		keys:    func(Record) []string { return nil },
		pending: func(Record) bool { return false },
		decode:  func(value []byte) (Record, error) { return decode[T](value) },
	}
	if options.Limit > 0 {
		t.limit = min(t.limit, options.Limit)
	}
	if options.Keys != nil {
		t.keys = func(r Record) []string { return options.Keys(r.(T)) }
	}
	if options.Pending != nil {
		t.pending = func(r Record) bool { return options.Pending(r.(T)) }
	}
	s.tables = append(s.tables, t)
	return Table[T]{t}
}

// Get returns the record of a name.
func (t Table[T]) Get(tx *Tx, name string) (T, bool) { return t.first(tx, nameIndex, name) }

// Find returns the record of a key.
func (t Table[T]) Find(tx *Tx, key string) (T, bool) { return t.first(tx, keyIndex, key) }

// All returns all records. The table must not be changed while it is iterated over, and neither
// must those of the other methods.
func (t Table[T]) All(tx *Tx) iter.Seq[T] { return t.each(tx, numberIndex) }

// Owned returns the records of an owner.
func (t Table[T]) Owned(tx *Tx, owner string) iter.Seq[T] { return t.each(tx, ownerIndex, owner) }

// Pending returns the records that have yet to reach their final state.
func (t Table[T]) Pending(tx *Tx) iter.Seq[T] { return t.each(tx, pendingIndex) }

// Count returns the number of records that were created in a transaction that writes.
func (t Table[T]) Count(tx *Tx) int { return tx.used(t.table).records }

// Full reports whether no further record is admitted.
func (t Table[T]) Full(tx *Tx) bool { return t.Count(tx) >= t.limit }

// Create adds a record. Its name must be new.
func (t Table[T]) Create(tx *Tx, r T) error {
	if _, taken := t.Get(tx, r.GetName()); taken {
		return fmt.Errorf("store: %s is there already", r.GetName())
	}
	return tx.put(t.table, nil, t.row(uint64(t.Count(tx)), r))
}

// Update replaces the record of the same name.
func (t Table[T]) Update(tx *Tx, r T) error {
	before := firstRow(tx, t.table, nameIndex, r.GetName())
	if before == nil {
		return fmt.Errorf("store: %s is not there", r.GetName())
	}
	return tx.put(t.table, before, t.row(before.number, r))
}

// Put creates a record or replaces the one of the same name.
func (t Table[T]) Put(tx *Tx, r T) error {
	if _, known := t.Get(tx, r.GetName()); known {
		return t.Update(tx, r)
	}
	return t.Create(tx, r)
}

func (t Table[T]) first(tx *Tx, index, value string) (r T, ok bool) {
	found := firstRow(tx, t.table, index, value)
	if found == nil {
		return r, false
	}
	return found.record.(T), true
}

func firstRow(tx *Tx, t *table, index, value string) *row {
	found, err := tx.txn.First(t.name, index, value)
	if err != nil || found == nil {
		return nil // the schema has the index, so that there is no error
	}
	return found.(*row)
}

func (t Table[T]) each(tx *Tx, index string, values ...any) iter.Seq[T] {
	return func(yield func(T) bool) {
		rows, err := tx.txn.Get(t.name, index, values...)
		if err != nil {
			return // the schema has the index, so that there is no error
		}
		for found := rows.Next(); found != nil; found = rows.Next() {
			if !yield(found.(*row).record.(T)) {
				return
			}
		}
	}
}

// row is a record as memdb holds it.
type row struct {
	// number is the place of the record in the order of creation.
	number  uint64
	record  Record
	keys    []string
	pending bool
	size    int
}

func (t *table) row(number uint64, r Record) *row {
	keys := slices.DeleteFunc(t.keys(r), func(key string) bool { return key == "" })
	return &row{number, r, keys, t.pending(r), size(r)}
}

// size is what a record counts for in the bounds. Records that are not messages of the contract
// contain nothing of a caller's that could be long, but for the path to their owner.
func size(r Record) int {
	if message, ok := r.(proto.Message); ok {
		return proto.Size(message)
	}
	var bytes int
	for _, owner := range r.GetOwners() {
		bytes += len(owner)
	}
	return bytes
}

// The indexes of every table. The number is the identity of a row, so that rows with the same
// owner or key are in the order of creation.
const (
	numberIndex  = "id" // the name that memdb demands
	nameIndex    = "name"
	ownerIndex   = "owner"
	keyIndex     = "key"
	pendingIndex = "pending"
)

func (t *table) schema() *memdb.TableSchema {
	return &memdb.TableSchema{Name: t.name, Indexes: map[string]*memdb.IndexSchema{
		numberIndex: {Name: numberIndex, Unique: true, Indexer: numberIndexer{}},
		nameIndex: {Name: nameIndex, Unique: true, Indexer: textIndexer(func(r *row) []string {
			return []string{r.record.GetName()}
		})},
		ownerIndex: {Name: ownerIndex, Indexer: textIndexer(func(r *row) []string {
			return []string{r.record.GetOwner()}
		})},
		keyIndex: {Name: keyIndex, AllowMissing: true, Indexer: textIndexer(func(r *row) []string {
			return r.keys
		})},
		pendingIndex: {Name: pendingIndex, AllowMissing: true, Indexer: textIndexer(func(r *row) []string {
			if r.pending {
				return []string{""}
			}
			return nil
		})},
	}}
}

// numberIndexer implements [memdb.SingleIndexer].
type numberIndexer struct{}

func (numberIndexer) FromObject(object any) (bool, []byte, error) {
	return true, binary.BigEndian.AppendUint64(nil, object.(*row).number), nil
}

func (numberIndexer) FromArgs(...any) ([]byte, error) {
	return nil, errors.New("store: no record is looked up by its number")
}

// textIndexer returns the values of a row in an index. It implements [memdb.MultiIndexer].
type textIndexer func(*row) []string

func (values textIndexer) FromObject(object any) (bool, [][]byte, error) {
	var found [][]byte
	for _, value := range values(object.(*row)) {
		found = append(found, text(value))
	}
	return len(found) > 0, found, nil
}

func (textIndexer) FromArgs(args ...any) ([]byte, error) {
	value, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("store: %T is not a string", args[0])
	}
	return text(value), nil
}

// text has its length in front, so that no value is the beginning of another.
func text(value string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(value))), value...)
}

func encode(r Record) ([]byte, error) {
	if message, ok := r.(proto.Message); ok {
		return proto.Marshal(message)
	}
	return json.Marshal(r)
}

func decode[T Record](value []byte) (r T, err error) {
	message, ok := any(r).(proto.Message)
	if !ok {
		return r, json.Unmarshal(value, &r)
	}
	message = message.ProtoReflect().New().Interface()
	return message.(T), proto.Unmarshal(value, message)
}
