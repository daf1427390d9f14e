package meshtest

import (
	"regexp"
	"strings"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"
)

// Valid draws a message that satisfies the validation rules in its descriptor. It does not support
// all rules, so tests should also check the message with protovalidate.
func Valid(t *rapid.T, message protoreflect.MessageDescriptor) *dynamicpb.Message {
	return draw(t, message, 0)
}

func draw(t *rapid.T, descriptor protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	message := dynamicpb.NewMessage(descriptor)
	if descriptor.FullName() == "google.protobuf.Timestamp" {
		// Late enough for gt_now, and within the range of RFC 3339.
		message.Set(descriptor.Fields().ByName("seconds"), protoreflect.ValueOfInt64(
			rapid.Int64Range(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).Unix()).Draw(t, "seconds")))
		message.Set(descriptor.Fields().ByName("nanos"), protoreflect.ValueOfInt32(rapid.Int32Range(0, 999_999_999).Draw(t, "nanos")))
		return message
	}
	for i := range descriptor.Oneofs().Len() {
		choices := descriptor.Oneofs().Get(i).Fields()
		if depth < 3 {
			set(t, message, choices.Get(rapid.IntRange(0, choices.Len()-1).Draw(t, "choice")), depth)
		}
	}
	for i := range descriptor.Fields().Len() {
		field := descriptor.Fields().Get(i)
		if field.ContainingOneof() != nil {
			continue
		}
		required := rules(field).GetRequired()
		if !required && (depth > 3 || !rapid.Bool().Draw(t, "set")) && rules(field).GetString().GetPattern() == "" &&
			rules(field).GetEnum() == nil && rules(field).GetRepeated().GetMinItems() == 0 {
			continue
		}
		set(t, message, field, depth)
	}
	switch descriptor.Name() {
	case "GetAccountReportRequest", "GetExcelAccountReportRequest":
		// A CEL rule requires period_start to be before period_end.
		start := dynamicpb.NewMessage(descriptor.Fields().ByName("period_start").Message())
		start.Set(start.Descriptor().Fields().ByName("seconds"), protoreflect.ValueOfInt64(rapid.Int64Range(1, 1<<30).Draw(t, "start")))
		message.Set(descriptor.Fields().ByName("period_start"), protoreflect.ValueOfMessage(start))
	case "ChannelSettings":
		message.Set(descriptor.Fields().ByName("email_enabled"), protoreflect.ValueOfBool(true))
	}
	return message
}

func rules(field protoreflect.FieldDescriptor) *validate.FieldRules {
	rules, _ := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	return rules
}

func set(t *rapid.T, message *dynamicpb.Message, field protoreflect.FieldDescriptor, depth int) {
	if !field.IsList() {
		message.Set(field, value(t, field, rules(field), depth))
		return
	}
	r := rules(field).GetRepeated()
	least := int(r.GetMinItems())
	if rules(field).GetRequired() {
		least = max(least, 1)
	}
	items := message.NewField(field).List()
	for range rapid.IntRange(least, least+2).Draw(t, "items") {
		items.Append(value(t, field, r.GetItems(), depth))
	}
	if items.Len() > 0 {
		message.Set(field, protoreflect.ValueOfList(items))
	}
}

var celPattern = regexp.MustCompile(`this\.matches\('([^']+)'\)`)

func value(t *rapid.T, field protoreflect.FieldDescriptor, r *validate.FieldRules, depth int) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return protoreflect.ValueOfMessage(draw(t, field.Message(), depth+1))
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(rapid.IntRange(1, values.Len()-1).Draw(t, "enum")).Number())
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, "int32"))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text(t, r))
	}
	panic("meshtest: no generator for " + field.Kind().String())
}

func text(t *rapid.T, r *validate.FieldRules) string {
	s := r.GetString()
	switch {
	case len(s.GetIn()) > 0:
		return rapid.SampledFrom(s.GetIn()).Draw(t, "in")
	case s.GetEmail():
		return rapid.StringMatching(`[a-z]{1,10}\.[a-z]{1,10}@[a-z]{1,10}\.example`).Draw(t, "email")
	case s.GetPattern() != "":
		return rapid.StringMatching(s.GetPattern()).Draw(t, "pattern")
	}
	for _, rule := range r.GetCel() {
		if match := celPattern.FindStringSubmatch(rule.GetExpression()); match != nil {
			return rapid.StringMatching(match[1]).Draw(t, "cel")
		}
		if strings.Contains(rule.GetExpression(), "isUri") {
			return rapid.StringMatching(`https://[a-z]{1,10}\.example/[a-z]{0,10}`).Draw(t, "uri")
		}
	}
	most := 40
	if s.HasMaxLen() {
		most = min(most, int(s.GetMaxLen()))
	}
	// Characters that need escaping in URLs or JSON, except slashes, which a path segment cannot
	// contain, and characters of other scripts.
	return rapid.StringOfN(rapid.RuneFrom([]rune(`azAZ09 :%+&=?#"'\{}[]<>;,.~éλ中🙂`)), 1, most, -1).Draw(t, "text")
}
