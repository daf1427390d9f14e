package idempotency

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// referenceField is the name of a field that Mesh keeps unique for the owner of a resource. A
// request that would create a second resource with the same value is refused with ALREADY_EXISTS.
// The contract marks it by nothing but its name.
const referenceField protoreflect.Name = "external_reference"

// SetReference sets the external reference of the resource that a write creates, if it can have one
// and has none, to a value that is derived from the record's ID. It returns the value, or "" if it
// set nothing. Mesh then refuses a second request with the same Idempotency-Key, even if the
// records are lost, and the client can find the resource by the reference.
//
// The contract allows references of up to 200 characters. The derived one has 37.
func SetReference(request proto.Message, id ID) string {
	resource, field := reference(request.ProtoReflect())
	if resource == nil || resource.Get(field).String() != "" {
		return ""
	}
	derived := referenceOf(id)
	resource.Set(field, protoreflect.ValueOfString(derived))
	return derived
}

// derivedReference returns the reference that SetReference sets or has set in the request, or "".
func derivedReference(request proto.Message, id ID) string {
	resource, field := reference(request.ProtoReflect())
	if resource == nil {
		return ""
	}
	derived := referenceOf(id)
	if value := resource.Get(field).String(); value != "" && value != derived {
		return ""
	}
	return derived
}

func referenceOf(id ID) string {
	sum := sha256.Sum256(append([]byte("mesh-gateway idempotency reference 1\x00"), id[:]...))
	return "idem-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:20]))
}

// reference returns the message in a field of the request that has a reference, and its field, or
// nil. A reference of the request itself selects a resource and does not name a new one.
func reference(request protoreflect.Message) (protoreflect.Message, protoreflect.FieldDescriptor) {
	fields := request.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() == nil || field.Cardinality() == protoreflect.Repeated || !request.Has(field) {
			continue
		}
		reference := field.Message().Fields().ByName(referenceField)
		if reference != nil && reference.Kind() == protoreflect.StringKind && reference.Cardinality() != protoreflect.Repeated {
			return request.Mutable(field).Message(), reference
		}
	}
	return nil, nil
}
