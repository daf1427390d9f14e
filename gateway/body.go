package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxDepth bounds the nesting of a body. Types of the contract recurse (a company is
// connected to companies), and protobuf implementations commonly refuse more than 100
// levels.
const maxDepth = 100

// strict refuses unknown and duplicate fields, two fields of a oneof, data after the
// message and text that is not UTF-8.
var strict = protojson.UnmarshalOptions{RecursionLimit: maxDepth}

// decode reads the body into v, which is a message or the address of a pointer to
// one. An empty body is io.EOF, which the generated handlers take for an empty
// message.
//
// The body is parsed once. Only one that is refused is read again, to list everything
// that is wrong with it (explain.go).
func (q *request) decode(v any) error {
	body, err := q.readBody()
	if err != nil {
		q.refusal = err
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return io.EOF
	}
	message, err := messageAt(v)
	if err != nil {
		return err
	}
	if q.lease != nil {
		if err := q.lease.GrowBody(structure(body)); err != nil {
			q.refusal = err
			return err
		}
	}
	if err := strict.Unmarshal(body, message); err != nil || q.contradicts(message) || q.route.enums.unknownIn(message.ProtoReflect()) {
		q.refusal = q.explain(body)
		return q.refusal
	}
	return nil
}

// structure returns the memory, in bytes, that the structure of a body may take as a message, which
// is up to forty times its size: an empty object in a list has 3 bytes, and its message about 120.
func structure(body []byte) int64 {
	const perValue = 80 // an object in a list counts for a comma and a brace
	return perValue * int64(bytes.Count(body, []byte{','})+bytes.Count(body, []byte{'{'}))
}

var errNoMessage = errors.New("gateway: the generated handler decodes into no message")

// messageAt returns the message to decode into. The generated handlers pass a message
// or, where the body is one field of the request, the address of the field.
func messageAt(v any) (proto.Message, error) {
	if message, ok := v.(proto.Message); ok {
		return message, nil
	}
	field := reflect.ValueOf(v)
	if field.Kind() != reflect.Pointer || field.Elem().Kind() != reflect.Pointer {
		return nil, fmt.Errorf("%w: %T", errNoMessage, v)
	}
	if field.Elem().IsNil() {
		field.Elem().Set(reflect.New(field.Elem().Type().Elem()))
	}
	message, ok := field.Elem().Interface().(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%w: %T", errNoMessage, v)
	}
	return message, nil
}

// contradicts reports whether the body sets the field of the path to another value.
// The generated code would overwrite it.
func (q *request) contradicts(body proto.Message) bool {
	if q.route.pathInBody == nil {
		return false
	}
	value := body.ProtoReflect().Get(q.route.pathInBody).String()
	return value != "" && value != q.path
}

// enums are the fields of a message in which the number of an enum can be: enums, and messages that
// have some within them.
type enums struct {
	fields []enumField
}

type enumField struct {
	field  protoreflect.FieldDescriptor
	within *enums // nil for an enum
}

// enumsIn returns the enums of a message. Types recurse, so seen has those that were begun.
func enumsIn(message protoreflect.MessageDescriptor, seen map[protoreflect.FullName]*enums) *enums {
	if known := seen[message.FullName()]; known != nil {
		return known
	}
	all := new(enums)
	seen[message.FullName()] = all
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if field.Enum() != nil {
			all.fields = append(all.fields, enumField{field: field})
		} else if inner := nested(field); inner != nil {
			all.fields = append(all.fields, enumField{field, enumsIn(inner, seen)})
		}
	}
	return all
}

// unknownIn reports whether a message holds the number of an enum that the contract does not have.
// protojson accepts any number.
func (e *enums) unknownIn(message protoreflect.Message) bool {
	for _, f := range e.fields {
		switch {
		case !message.Has(f.field):
		case !f.field.IsList():
			if f.unknown(message.Get(f.field)) {
				return true
			}
		default:
			list := message.Get(f.field).List()
			for i := range list.Len() {
				if f.unknown(list.Get(i)) {
					return true
				}
			}
		}
	}
	return false
}

func (f enumField) unknown(value protoreflect.Value) bool {
	if f.within == nil {
		return f.field.Enum().Values().ByNumber(value.Enum()) == nil
	}
	return f.within.unknownIn(value.Message())
}
