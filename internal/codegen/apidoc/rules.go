package apidoc

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// rule is a rule that JSON Schema cannot express: a CEL expression and its meaning.
type rule struct {
	Expression string `json:"expression"`
	Message    string `json:"message"`
}

// tellRules adds rules to described: as x-mesh-rules for programs, and to its description for
// people.
func tellRules(described object, subject string, rules []rule) {
	if len(rules) == 0 {
		return
	}
	described["x-mesh-rules"] = rules
	for _, rule := range rules {
		text, _ := described["description"].(string)
		described["description"] = strings.TrimSpace(text + " " + subject + " " + camelCase(rule.Message) + ".")
	}
}

// messageRules returns the rules for a message as a whole.
func messageRules(message protoreflect.MessageDescriptor) ([]rule, error) {
	rules, _ := proto.GetExtension(message.Options(), validate.E_Message).(*validate.MessageRules)
	if rules.GetOneof() != nil || len(rules.GetCelExpression()) > 0 {
		return nil, fmt.Errorf("rules of an unknown kind: %v", rules)
	}
	var told []rule
	for _, cel := range rules.GetCel() {
		told = append(told, rule{cel.GetExpression(), cel.GetMessage()})
	}
	return told, nil
}

// constrain adds the protovalidate rules of a field to its schema, and reports whether the field
// is required.
func constrain(field protoreflect.FieldDescriptor, schema object) (required bool, err error) {
	rules, _ := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	if rules == nil {
		return false, nil
	}
	demanded, told, err := translate(field, rules)
	if err != nil {
		return false, err
	}
	if rules.GetRequired() {
		demanded.merge(notZero(field))
	}
	// A missing field without presence has its zero value and is validated as such.
	required = rules.GetRequired() || !field.HasPresence() && !demanded.admitsZero(field)
	if rules.GetIgnore() == validate.Ignore_IGNORE_IF_ZERO_VALUE {
		demanded, required = demanded.or(exactly("")), false
	}
	tellRules(schema, "It", told)
	return required, demanded.addTo(schema)
}

// translate translates rules to JSON Schema. It also returns the rules that JSON Schema cannot
// express.
func translate(field protoreflect.FieldDescriptor, rules *validate.FieldRules) (demands, []rule, error) {
	d := make(demands)
	var told []rule
	switch kind := rules.GetType().(type) {
	case nil:
	case *validate.FieldRules_String_:
		if err := d.mergeString(kind.String_); err != nil {
			return nil, nil, err
		}
	case *validate.FieldRules_Enum:
		// defined_only is already expressed by the enum keyword.
		for _, number := range kind.Enum.GetNotIn() {
			d.merge(not(enumName(field, protoreflect.EnumNumber(number))))
		}
		if kind.Enum.Const != nil || len(kind.Enum.GetIn()) > 0 {
			return nil, nil, fmt.Errorf("enum rules of an unknown kind: %v", kind.Enum)
		}
	case *validate.FieldRules_Repeated:
		if kind.Repeated.MinItems != nil {
			d["minItems"] = int(kind.Repeated.GetMinItems())
		}
		if kind.Repeated.MaxItems != nil {
			d["maxItems"] = int(kind.Repeated.GetMaxItems())
		}
		if kind.Repeated.GetUnique() {
			d["uniqueItems"] = true
		}
		if items := kind.Repeated.GetItems(); items != nil {
			each, itemsTold, err := translate(field, items)
			if err != nil {
				return nil, nil, err
			}
			told = append(told, itemsTold...)
			d["items"] = each
		}
	case *validate.FieldRules_Timestamp:
		if !kind.Timestamp.GetGtNow() {
			return nil, nil, fmt.Errorf("timestamp rules of an unknown kind: %v", kind.Timestamp)
		}
		told = append(told, rule{"this > now", "must be in the future"})
	default:
		return nil, nil, fmt.Errorf("rules of an unknown kind: %v", rules)
	}
	for _, cel := range rules.GetCel() {
		more, ok, err := translateCEL(field, cel.GetExpression())
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", cel.GetExpression(), err)
		}
		if ok {
			d.merge(more)
		} else {
			told = append(told, rule{cel.GetExpression(), cel.GetMessage()})
		}
	}
	return d, told, nil
}

// emailPattern matches a valid e-mail address as the HTML standard defines it. protovalidate uses
// the same definition.
const emailPattern = "^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?" +
	`(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`

// demands are JSON Schema keywords that restrict a value.
type demands object

func pattern(expression string) demands { return demands{"pattern": expression} }
func exactly(value string) demands      { return demands{"enum": []string{value}} }
func not(value string) demands          { return demands{"not": object{"const": value}} }

func (d demands) mergeString(rules *validate.StringRules) error {
	known := proto.CloneOf(rules)
	known.Len, known.MinLen, known.MaxLen, known.Pattern, known.In = nil, nil, nil, nil, nil
	if rules.GetEmail() {
		known.WellKnown = nil
		d.merge(demands{"format": "email", "pattern": emailPattern})
	}
	if proto.Size(known) > 0 {
		return fmt.Errorf("string rules of an unknown kind: %v", known)
	}
	if rules.Len != nil {
		d.merge(demands{"minLength": int(rules.GetLen()), "maxLength": int(rules.GetLen())})
	}
	if rules.MinLen != nil {
		d.merge(demands{"minLength": int(rules.GetMinLen())})
	}
	if rules.MaxLen != nil {
		d.merge(demands{"maxLength": int(rules.GetMaxLen())})
	}
	if rules.Pattern != nil {
		d.merge(pattern(rules.GetPattern()))
	}
	if len(rules.GetIn()) > 0 {
		d.merge(demands{"enum": rules.GetIn()})
	}
	return nil
}

// merge adds demands: a value must then meet both.
func (d demands) merge(more demands) {
	for keyword, value := range more {
		had, both := d[keyword]
		switch {
		case !both:
			d[keyword] = value
		case keyword == "minLength" || keyword == "minItems":
			d[keyword] = max(had.(int), value.(int))
		case keyword == "maxLength" || keyword == "maxItems":
			d[keyword] = min(had.(int), value.(int))
		case fmt.Sprint(had) != fmt.Sprint(value):
			all, _ := d["allOf"].([]demands)
			d["allOf"] = append(all, demands{keyword: value})
		}
	}
}

// or returns demands that a value meets if it meets d or other. Two patterns for whole values
// become one pattern, and so do a pattern and the empty string.
func (d demands) or(other demands) demands {
	first, second := d.whole(), other.whole()
	switch {
	case first != "" && second != "":
		return pattern("^(?:" + first + "|" + second + ")$")
	case first != "" && other.empty():
		return pattern("^(?:" + first + ")?$")
	case second != "" && d.empty():
		return pattern("^(?:" + second + ")?$")
	}
	return demands{"anyOf": []demands{d, other}}
}

// whole returns the expression that the whole value must match, if that is the only demand.
func (d demands) whole() string {
	expression, _ := d["pattern"].(string)
	inner, start := strings.CutPrefix(expression, "^")
	inner, end := strings.CutSuffix(inner, "$")
	if len(d) != 1 || !start || !end {
		return ""
	}
	return inner
}

// empty reports whether the empty string is the only allowed value.
func (d demands) empty() bool {
	return len(d) == 1 && (d["maxLength"] == 0 || slices.Equal(asStrings(d["enum"]), []string{""}))
}

func asStrings(value any) []string {
	list, _ := value.([]string)
	return list
}

// notZero returns demands that exclude the zero value of a field.
func notZero(field protoreflect.FieldDescriptor) demands {
	switch {
	case field.IsList():
		return demands{"minItems": 1}
	case field.Kind() == protoreflect.StringKind:
		return demands{"minLength": 1}
	case field.Kind() == protoreflect.EnumKind:
		return not(enumName(field, 0))
	}
	return demands{}
}

// admitsZero reports whether the zero value of the field meets the demands.
func (d demands) admitsZero(field protoreflect.FieldDescriptor) bool {
	if field.IsList() {
		least, _ := d["minItems"].(int)
		return least == 0
	}
	if field.Kind() == protoreflect.EnumKind {
		excluded, _ := d["not"].(object)
		return excluded["const"] != enumName(field, 0)
	}
	if field.Kind() != protoreflect.StringKind {
		return true
	}
	if least, _ := d["minLength"].(int); least > 0 {
		return false
	}
	if expression, ok := d["pattern"].(string); ok && !regexp.MustCompile(expression).MatchString("") {
		return false
	}
	if enum, ok := d["enum"].([]string); ok && !slices.Contains(enum, "") {
		return false
	}
	if either, ok := d["anyOf"].([]demands); ok {
		return slices.ContainsFunc(either, func(one demands) bool { return one.admitsZero(field) })
	}
	return d["format"] == nil
}

// addTo adds the demands to a schema.
func (d demands) addTo(schema object) error {
	// The lengths are redundant if the pattern allows only one length.
	if d.fixedLength() {
		delete(d, "minLength")
		delete(d, "maxLength")
	}
	for keyword, value := range d {
		if keyword == "items" {
			items, ok := schema["items"].(object)
			if !ok {
				return fmt.Errorf("the schema has no items")
			}
			each, _ := value.(demands)
			if err := each.addTo(items); err != nil {
				return err
			}
			continue
		}
		if _, taken := schema[keyword]; taken {
			return fmt.Errorf("%s is already set", keyword)
		}
		schema[keyword] = value
	}
	return nil
}

var repetition = regexp.MustCompile(`\[[^\]]*\]\{\d+\}`)

// fixedLength reports whether the pattern already fixes the length: literal text followed by a
// fixed number of characters, as in ^groups/[0-9A-Z]{26}$.
func (d demands) fixedLength() bool {
	inner := demands{"pattern": d["pattern"]}.whole()
	if inner == "" || d["minLength"] == nil && d["maxLength"] == nil {
		return false
	}
	runs := repetition.FindAllString(inner, -1)
	rest := repetition.ReplaceAllString(inner, "")
	return len(runs) == 1 && rest == regexp.QuoteMeta(rest)
}

func enumName(field protoreflect.FieldDescriptor, number protoreflect.EnumNumber) string {
	if value := field.Enum().Values().ByNumber(number); value != nil {
		return string(value.Name())
	}
	return fmt.Sprint(number)
}
