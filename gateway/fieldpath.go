package gateway

import (
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// newMessage returns an empty message of the linked Go type, or a dynamic one where
// none is linked.
func newMessage(descriptor protoreflect.MessageDescriptor) proto.Message {
	if linked, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName()); err == nil {
		return linked.New().Interface()
	}
	return dynamicpb.NewMessage(descriptor)
}

// fieldByName finds a field by either spelling that ProtoJSON accepts.
func fieldByName(message protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if field := message.Fields().ByJSONName(name); field != nil {
		return field
	}
	return message.Fields().ByTextName(name)
}

// nested is the message whose fields a value of the field has; nil for scalars,
// enums and the well-known types, which are written as one value.
func nested(field protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	message := field.Message()
	if message == nil || field.IsMap() || message.FullName().Parent() == "google.protobuf" {
		return nil
	}
	return message
}

// sent spells a path of the request message as the client knows it: where the body
// is one field of the request, paths start within that field. The path is in JSON
// spelling; "" is the body as a whole.
func (rt *route) sent(path string) string {
	if rt.bodyField == nil {
		return path
	}
	inner, found := strings.CutPrefix(path, rt.bodyField.JSONName())
	switch {
	case !found:
		return path
	case inner == "":
		return ""
	case inner[0] == '.':
		return inner[1:]
	}
	return path
}

// translate spells a field path of the upstream ("limit_order.limit_price.token") as
// the client knows it ("limitPrice.token"). A path that begins within the resource
// is understood too; one that is not of the contract stays as it is.
func (rt *route) translate(path string) string {
	if spelt, ok := jsonSpelling(rt.input, path); ok {
		return rt.sent(spelt)
	}
	if rt.bodyField != nil {
		if spelt, ok := jsonSpelling(rt.bodyField.Message(), path); ok {
			return spelt
		}
	}
	return path
}

// jsonSpelling spells a path as JSON does, "tokens[0].issuer_name" as
// "tokens[0].issuerName". It reports false for a path that the message does not
// have.
func jsonSpelling(message protoreflect.MessageDescriptor, path string) (string, bool) {
	names := strings.Split(path, ".")
	for i, name := range names {
		if message == nil {
			return "", false
		}
		name, index, _ := strings.Cut(name, "[")
		field := fieldByName(message, name)
		if field == nil {
			return "", false
		}
		names[i] = field.JSONName()
		if index != "" {
			names[i] += "[" + index
		}
		message = field.Message()
	}
	return strings.Join(names, "."), true
}

// jsonPath spells the path of a violation of protovalidate as JSON does:
// "apiUser.roles[0]".
func jsonPath(message protoreflect.MessageDescriptor, path *validate.FieldPath) string {
	var b strings.Builder
	for _, element := range path.GetElements() {
		name := element.GetFieldName()
		if message != nil {
			if field := message.Fields().ByNumber(protoreflect.FieldNumber(element.GetFieldNumber())); field != nil {
				name, message = field.JSONName(), field.Message()
			}
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(name)
		if element.HasIndex() {
			b.WriteString("[" + strconv.FormatUint(element.GetIndex(), 10) + "]")
		}
	}
	return b.String()
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
