// Package wirejson turns protobuf wire bytes into canonical ProtoJSON without building
// messages.
//
// A [Type] is compiled once from a message descriptor. [Type.Append] then reads the wire
// bytes of such a message and writes its JSON with the defaults of protojson:
// lowerCamelCase names, 64-bit integers as strings, enums by name, fields at their default
// left out. It writes what protojson would write for the message that proto.Unmarshal
// reads from the same bytes, and refuses what either of them refuses.
//
// Types that the Mesh API does not use are left to protojson ([Type.Supported]).
package wirejson

import (
	"fmt"
	"strconv"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Type is a message type compiled for writing. It is safe for concurrent use.
type Type struct {
	name   protoreflect.FullName
	fields []field // in the order of their declaration, which is that of the JSON
	// dense has the index of a field plus one by its number, 0 where there is none;
	// sparse has the numbers that are too high for it.
	dense  []uint16
	sparse map[protowire.Number]uint16
	// tags has the index of a field plus one by its tag, if that is of one byte and of the wire type of
	// the field.
	tags [byteTags]uint16
	// time is set for google.protobuf.Timestamp.
	time bool
	// foreign is set on types with a field that is left to protojson, or that are left to
	// it as a whole; unsupported on those that such a type is part of, too.
	foreign, unsupported bool
}

// Supported reports whether this package can write the type. It cannot where the type, or
// one within it, has floats, maps, groups, closed enums, or a well-known type other than
// Timestamp.
func (t *Type) Supported() bool { return !t.unsupported }

// kind is how a value is read and written.
type kind uint8

const (
	kindBool kind = iota
	kindInt32
	kindSint32
	kindUint32
	kindInt64
	kindSint64
	kindUint64
	kindSfixed32
	kindFixed32
	kindSfixed64
	kindFixed64
	kindEnum
	kindString
	kindBytes
	kindMessage
)

// field is a field of a type.
type field struct {
	key  string // `,"name":`
	kind kind
	wire protowire.Type // of one value
	list bool
	// presence is set on fields that are written at their default too, once they are set:
	// messages, members of a oneof, and optional fields.
	presence bool
	// oneof is the index of the field's oneof plus one, 0 where it is in none.
	oneof   uint16
	enum    *enum
	message *Type
}

// enum has the names of an enum as JSON.
type enum struct {
	dense  []string // by number, "" where there is none
	sparse map[int32]string
}

const (
	// maxDense is the highest field number, and enum number, that is looked up in a
	// table.
	maxDense = 255
	// byteTags is the number of tags that take one byte.
	byteTags = 0x80
)

// Types compiles message types and keeps them. The zero value is ready for use.
type Types struct {
	mu    sync.Mutex
	known map[protoreflect.FullName]*Type
}

// Of returns the type of a message. Types that refer to each other are compiled once.
func (t *Types) Of(message protoreflect.MessageDescriptor) *Type {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = make(map[protoreflect.FullName]*Type)
	}
	compiled := t.compile(message)
	compiled.unsupported = compiled.reaches(make(map[*Type]bool))
	return compiled
}

// reaches reports whether the type, or one within it, is foreign.
func (t *Type) reaches(seen map[*Type]bool) bool {
	if t.foreign {
		return true
	}
	if seen[t] {
		return false
	}
	seen[t] = true
	for i := range t.fields {
		if inner := t.fields[i].message; inner != nil && inner.reaches(seen) {
			return true
		}
	}
	return false
}

func (t *Types) compile(message protoreflect.MessageDescriptor) *Type {
	if known := t.known[message.FullName()]; known != nil {
		return known
	}
	compiled := &Type{name: message.FullName(), time: message.FullName() == "google.protobuf.Timestamp"}
	t.known[message.FullName()] = compiled // types recurse
	if message.FullName().Parent() == "google.protobuf" && !compiled.time || message.IsMapEntry() {
		compiled.foreign = true
		return compiled
	}
	fields := message.Fields()
	compiled.fields = make([]field, fields.Len())
	for i := range fields.Len() {
		described := fields.Get(i)
		f, ok := t.field(described)
		if !ok {
			compiled.foreign = true
		}
		compiled.fields[i] = f
		compiled.index(described.Number(), uint16(i+1))
		if tag := protowire.EncodeTag(described.Number(), f.wire); tag < byteTags {
			compiled.tags[tag] = uint16(i + 1)
		}
	}
	return compiled
}

func (t *Type) index(number protowire.Number, index uint16) {
	if number > maxDense {
		if t.sparse == nil {
			t.sparse = make(map[protowire.Number]uint16)
		}
		t.sparse[number] = index
		return
	}
	for len(t.dense) <= int(number) {
		t.dense = append(t.dense, 0)
	}
	t.dense[number] = index
}

// lookup returns the index of a field plus one, 0 where there is none.
func (t *Type) lookup(number protowire.Number) uint16 {
	if int(number) < len(t.dense) {
		return t.dense[number]
	}
	return t.sparse[number]
}

// field compiles a field. It reports false for one that is left to protojson.
func (t *Types) field(described protoreflect.FieldDescriptor) (field, bool) {
	f := field{
		key:      "," + strconv.Quote(described.JSONName()) + ":", // a JSON name is ASCII
		list:     described.IsList(),
		presence: described.HasPresence(),
	}
	if oneof := described.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		f.oneof = uint16(oneof.Index() + 1)
	}
	switch described.Kind() {
	case protoreflect.BoolKind:
		f.kind, f.wire = kindBool, protowire.VarintType
	case protoreflect.Int32Kind:
		f.kind, f.wire = kindInt32, protowire.VarintType
	case protoreflect.Sint32Kind:
		f.kind, f.wire = kindSint32, protowire.VarintType
	case protoreflect.Uint32Kind:
		f.kind, f.wire = kindUint32, protowire.VarintType
	case protoreflect.Int64Kind:
		f.kind, f.wire = kindInt64, protowire.VarintType
	case protoreflect.Sint64Kind:
		f.kind, f.wire = kindSint64, protowire.VarintType
	case protoreflect.Uint64Kind:
		f.kind, f.wire = kindUint64, protowire.VarintType
	case protoreflect.Sfixed32Kind:
		f.kind, f.wire = kindSfixed32, protowire.Fixed32Type
	case protoreflect.Fixed32Kind:
		f.kind, f.wire = kindFixed32, protowire.Fixed32Type
	case protoreflect.Sfixed64Kind:
		f.kind, f.wire = kindSfixed64, protowire.Fixed64Type
	case protoreflect.Fixed64Kind:
		f.kind, f.wire = kindFixed64, protowire.Fixed64Type
	case protoreflect.EnumKind:
		f.kind, f.wire, f.enum = kindEnum, protowire.VarintType, compileEnum(described.Enum())
		if described.Enum().IsClosed() {
			return f, false
		}
	case protoreflect.StringKind:
		f.kind, f.wire = kindString, protowire.BytesType
	case protoreflect.BytesKind:
		f.kind, f.wire = kindBytes, protowire.BytesType
	case protoreflect.MessageKind:
		if described.IsMap() {
			return f, false
		}
		f.kind, f.wire, f.message = kindMessage, protowire.BytesType, t.compile(described.Message())
	default: // floats and groups
		return f, false
	}
	return f, true
}

func compileEnum(described protoreflect.EnumDescriptor) *enum {
	e := &enum{sparse: make(map[int32]string)}
	for i := range described.Values().Len() {
		number := described.Values().Get(i).Number()
		// Of names that share a number, the first is written.
		name := strconv.Quote(string(described.Values().ByNumber(number).Name()))
		if number < 0 || number > maxDense {
			e.sparse[int32(number)] = name
			continue
		}
		for len(e.dense) <= int(number) {
			e.dense = append(e.dense, "")
		}
		e.dense[number] = name
	}
	return e
}

// appendTo writes an enum value: its name, or its number where it has none.
func (e *enum) appendTo(out []byte, number int32) []byte {
	name := ""
	if number >= 0 && int(number) < len(e.dense) {
		name = e.dense[number]
	} else {
		name = e.sparse[number]
	}
	if name == "" {
		return strconv.AppendInt(out, int64(number), 10)
	}
	return append(out, name...)
}

// Mask is the part of a message to write: a mask for each field by its index in the
// declaration order, nil for a field that is left out. A nil *Mask is all of a message.
type Mask struct{ fields []*Mask }

// all is the mask of a field that is written whole.
var all = new(Mask)

// Mask returns the mask that leaves out every field of the type. Keep adds fields to it.
func (t *Type) Mask() *Mask { return &Mask{fields: make([]*Mask, len(t.fields))} }

// Keep adds a field of the type to its mask, whole if within is nil. It returns an error
// if the type has no such field.
func (t *Type) Keep(mask *Mask, number protowire.Number, within *Mask) error {
	index := t.lookup(number)
	if index == 0 {
		return fmt.Errorf("wirejson: %s has no field %d", t.name, number)
	}
	if within == nil {
		within = all
	}
	mask.fields[index-1] = within
	return nil
}

// Message returns the type of a field that holds messages, nil for other fields.
func (t *Type) Message(number protowire.Number) *Type {
	if index := t.lookup(number); index > 0 {
		return t.fields[index-1].message
	}
	return nil
}

// field returns the mask of a field, and whether it is written at all.
func (m *Mask) field(index int) (*Mask, bool) {
	if m == nil || m == all {
		return nil, true
	}
	within := m.fields[index]
	return within, within != nil
}
