package idempotency

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Fingerprint identifies the content of a request message. Its first byte is the version of the
// fingerprint. The rest, for version 1, is the HMAC-SHA256 of the message in a canonical form,
// keyed by the API key. A plain hash would let who reads the store guess a request, such as the
// amount of a transfer.
type Fingerprint []byte

const fingerprintVersion = 1

// FingerprintOf returns the fingerprint of a message. Messages with equal content have the same
// fingerprint, in every build of the gateway.
//
// The canonical form is defined here, because that of proto.MarshalOptions.Deterministic may change
// with the release of the library, and a replica of another build must come to the same result.
func FingerprintOf(apiKey string, message proto.Message) Fingerprint {
	mac := hmac.New(sha256.New, derive(apiKey, "mesh-gateway idempotency fingerprint 1"))
	mac.Write(appendMessage(nil, message.ProtoReflect()))
	return mac.Sum(Fingerprint{fingerprintVersion})
}

// known reports whether this build can compare the fingerprint.
func (f Fingerprint) known() bool { return len(f) == 1+sha256.Size && f[0] == fingerprintVersion }

func (f Fingerprint) equal(other Fingerprint) bool { return hmac.Equal(f, other) }

// appendMessage appends the canonical form of a message: the number of fields, each field that is
// set as its number and value in the order of the numbers, and the unknown fields as received.
// Everything of variable size is preceded by its size, so no two messages have the same form.
//
// A scalar without presence is set if it is not zero. JSON cannot make unknown fields. Another
// protocol can, and then their order counts.
func appendMessage(b []byte, m protoreflect.Message) []byte {
	type field struct {
		descriptor protoreflect.FieldDescriptor
		value      protoreflect.Value
	}
	var fields []field
	m.Range(func(descriptor protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		fields = append(fields, field{descriptor, value})
		return true
	})
	slices.SortFunc(fields, func(a, b field) int { return cmp.Compare(a.descriptor.Number(), b.descriptor.Number()) })

	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, f := range fields {
		b = binary.AppendUvarint(b, uint64(f.descriptor.Number()))
		switch {
		case f.descriptor.IsList():
			b = appendList(b, f.descriptor, f.value.List())
		case f.descriptor.IsMap():
			b = appendMap(b, f.descriptor, f.value.Map())
		default:
			b = appendValue(b, f.descriptor, f.value)
		}
	}
	return appendBytes(b, m.GetUnknown())
}

func appendList(b []byte, descriptor protoreflect.FieldDescriptor, list protoreflect.List) []byte {
	b = binary.AppendUvarint(b, uint64(list.Len()))
	for i := range list.Len() {
		b = appendValue(b, descriptor, list.Get(i))
	}
	return b
}

// appendMap appends the entries in the order of their forms. The contract has no maps today.
func appendMap(b []byte, descriptor protoreflect.FieldDescriptor, entries protoreflect.Map) []byte {
	var forms [][]byte
	entries.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		form := appendValue(nil, descriptor.MapKey(), key.Value())
		forms = append(forms, appendValue(form, descriptor.MapValue(), value))
		return true
	})
	slices.SortFunc(forms, bytes.Compare)
	b = binary.AppendUvarint(b, uint64(len(forms)))
	for _, form := range forms {
		b = appendBytes(b, form)
	}
	return b
}

func appendValue(b []byte, descriptor protoreflect.FieldDescriptor, value protoreflect.Value) []byte {
	switch v := value.Interface().(type) {
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case int32:
		return binary.AppendVarint(b, int64(v))
	case int64:
		return binary.AppendVarint(b, v)
	case uint32:
		return binary.AppendUvarint(b, uint64(v))
	case uint64:
		return binary.AppendUvarint(b, v)
	case float32:
		return binary.BigEndian.AppendUint32(b, math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	case string:
		return appendBytes(b, []byte(v))
	case []byte:
		return appendBytes(b, v)
	case protoreflect.EnumNumber:
		return binary.AppendVarint(b, int64(v))
	case protoreflect.Message:
		return appendMessage(b, v)
	default:
		// protoreflect.Value has no other types for a single value.
		panic("idempotency: " + string(descriptor.FullName()) + " has a type that protobuf does not have")
	}
}

func appendBytes(b, value []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}
