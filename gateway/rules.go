package gateway

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// rules checks requests against the validation rules of the contract.
type rules struct {
	validator protovalidate.Validator
	// none are the requests without a rule, which are not checked.
	none map[protoreflect.MessageDescriptor]bool
}

// compiledRules are the same for all gateways of a program.
var compiledRules = sync.OnceValues(newRules)

// newRules compiles the rules of every request up front, so that no caller waits for
// it and a rule that does not compile fails the start.
func newRules() (*rules, error) {
	var requests []proto.Message
	none := make(map[protoreflect.MessageDescriptor]bool)
	for _, method := range contract.Methods() {
		input := method.Descriptor.Input()
		requests = append(requests, newMessage(input))
		none[input] = !hasRules(input, make(map[protoreflect.FullName]bool))
	}
	validator, err := protovalidate.New(protovalidate.WithMessages(requests...), protovalidate.WithDisableLazy())
	if err != nil {
		return nil, fmt.Errorf("gateway: validation rules: %w", err)
	}
	return &rules{validator, none}, nil
}

// hasRules reports whether a message or one within it has a rule. It does not look again at
// the messages that it has seen.
func hasRules(message protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[message.FullName()] {
		return false
	}
	seen[message.FullName()] = true
	if proto.HasExtension(message.Options(), validate.E_Message) {
		return true
	}
	for i := range message.Oneofs().Len() {
		if proto.HasExtension(message.Oneofs().Get(i).Options(), validate.E_Oneof) {
			return true
		}
	}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if proto.HasExtension(field.Options(), validate.E_Field) || field.Message() != nil && hasRules(field.Message(), seen) {
			return true
		}
	}
	return false
}

// brokenRules is a request that breaks a rule, and the first that it breaks. The error
// writer lists all of them.
type brokenRules struct {
	request proto.Message
	first   []*protovalidate.Violation
}

func (*brokenRules) Error() string { return "the request breaks a rule of the contract" }

// check finds out whether the request breaks a rule. It stops at the first, so that a
// hostile request costs no more than a good one.
func (c *rules) check(message any) error {
	request, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("gateway: %T is not a protobuf message", message)
	}
	if c.none[request.ProtoReflect().Descriptor()] {
		return nil
	}
	err := c.validator.Validate(request, protovalidate.WithFailFast())
	if err == nil {
		return nil
	}
	if invalid, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
		return &brokenRules{request, invalid.Violations}
	}
	// A rule that cannot be evaluated is a defect of the contract.
	return fmt.Errorf("gateway: validation: %w", err)
}

// maxListed bounds the lists that are checked for all that is wrong with them.
const maxListed = 128

// list adds every rule that the request breaks to the faults, except those of fields
// that are faulty already; known are violations that were found before. Of a long
// list it looks at the first items only, and it cuts the others from the request,
// which is refused anyway.
func (c *rules) list(rt *route, request proto.Message, known []*protovalidate.Violation, found *faults) {
	if clipLists(request.ProtoReflect()) {
		found.AtLeast()
	}
	violations := known
	if invalid, ok := errors.AsType[*protovalidate.ValidationError](c.validator.Validate(request)); ok {
		violations = append(violations, invalid.Violations...)
	}
	message := request.ProtoReflect().Descriptor()
	patterned := make(map[string]bool)
	for _, v := range violations {
		if v.Proto.GetRuleId() == patternRule {
			patterned[jsonPath(message, v.Proto.GetField())] = true
		}
	}
	// The contract states several rules twice.
	type said struct{ field, description string }
	listed := make(map[said]bool)
	for _, v := range violations {
		path := jsonPath(message, v.Proto.GetField())
		// The length of what has a pattern is part of the pattern.
		if v.Proto.GetRuleId() == "string.len" && patterned[path] || found.covers(path) {
			continue
		}
		field, description := rt.sent(path), describe(v)
		if field == "" && v.Proto.GetRuleId() == "required" {
			description = "this method needs a JSON body"
		}
		if one := (said{field, description}); !listed[one] {
			listed[one] = true
			found.Add(field, description)
		}
	}
}

// clipLists cuts every list of a message to maxListed items and reports whether one
// was longer.
func clipLists(message protoreflect.Message) (clipped bool) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsList():
			list := value.List()
			if list.Len() > maxListed {
				list.Truncate(maxListed)
				clipped = true
			}
			if field.Message() != nil {
				for i := range list.Len() {
					clipped = clipLists(list.Get(i).Message()) || clipped
				}
			}
		case field.Message() != nil && !field.IsMap():
			clipped = clipLists(value.Message()) || clipped
		}
		return true
	})
	return clipped
}

// describe words a broken rule for a person.
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
	return "violates the rule " + v.Proto.GetRuleId()
}

// patternRule is protovalidate's name for the rule of a pattern.
const patternRule = "string.pattern"

// describePattern spares a person the regular expression where it is a name.
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
