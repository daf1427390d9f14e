package gateway

import (
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// newMessage returns an empty message of the linked Go type, or a dynamic one
// where none is linked.
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

// jsonNames spells a path of proto names ("limit_order.limit_price") as JSON
// does ("limitOrder.limitPrice").
func jsonNames(message protoreflect.MessageDescriptor, path string) string {
	names := strings.Split(path, ".")
	for i, name := range names {
		if message == nil {
			break
		}
		field := message.Fields().ByTextName(name)
		if field == nil {
			break
		}
		names[i] = field.JSONName()
		message = field.Message()
	}
	return strings.Join(names, ".")
}

// jsonPath spells the path of a violation as JSON does: "apiUser.roles[0]".
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

// describe words a broken rule for a person. The alphabet of a ULID says less
// than its name.
func describe(v *protovalidate.Violation) string {
	switch v.Proto.GetRuleId() {
	case "enum.not_in", "enum.defined_only":
		if v.FieldDescriptor != nil {
			return expected(v.FieldDescriptor)
		}
	case patternRule:
		if pattern, ok := v.RuleValue.Interface().(string); ok {
			return describePattern(pattern)
		}
	}
	if message := nameULIDs(v.Proto.GetMessage()); message != "" {
		return message
	}
	return "breaks the rule " + v.Proto.GetRuleId()
}

// patternRule is protovalidate's name for the rule of a pattern.
const patternRule = "string.pattern"

// describePattern spares a person the regular expression where there is little to
// it.
func describePattern(pattern string) string {
	readable := nameULIDs(pattern)
	inner := strings.TrimSuffix(strings.TrimPrefix(readable, "^"), "$")
	if len(inner) == len(readable)-2 && !strings.ContainsAny(strings.ReplaceAll(inner, ulidName, ""), `\[](){}?*+|^$.`) {
		return "must be " + inner
	}
	return "must match the pattern " + readable
}

const ulidName = "{ULID}"

func nameULIDs(text string) string {
	return strings.ReplaceAll(text, "[0123456789ABCDEFGHJKMNPQRSTVWXYZ]{26}", ulidName)
}
