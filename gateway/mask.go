package gateway

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	"github.com/meshtrade/mesh-gateway/internal/wirejson"
)

// mask is the part of a message that was asked for: its fields, each with the part
// of itself. An empty mask is all of it.
type mask map[protoreflect.FieldNumber]mask

// readMask takes the parameter of partial answers from the query.
func (q *request) readMask(chosen format) {
	lists, given := q.query[wire.FieldsParameter]
	if !given || !q.route.takesMask() {
		return
	}
	delete(q.query, wire.FieldsParameter)
	if chosen == asWorkbook {
		q.problems.Add(wire.FieldsParameter, "does not apply to a workbook; leave it out, or ask for JSON")
		return
	}
	all := false
	q.mask = mask{}
	for path := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		if path = strings.TrimSpace(path); path == "*" {
			all = true
			continue
		}
		numbers, problem := resolve(q.route.Method.Descriptor.Output(), path)
		if problem != nil {
			q.problems.Add(problem.Field, problem.Description)
			continue
		}
		q.mask.add(numbers)
	}
	if all {
		q.mask = nil
	}
	if q.route.reply.Supported() {
		q.kept = q.mask.compiled(q.route.reply)
	}
}

// resolve finds the fields of a path in JSON or proto spelling. A path goes through
// lists: "accounts.name" is the name of each account.
func resolve(message protoreflect.MessageDescriptor, path string) ([]protoreflect.FieldNumber, *apierror.Violation) {
	refuse := func(description string) ([]protoreflect.FieldNumber, *apierror.Violation) {
		return nil, &apierror.Violation{Field: wire.FieldsParameter, Description: description}
	}
	if path == "" {
		return refuse("is empty; list fields of the response, separated by commas, such as " + strings.Join(jsonFields(message), ","))
	}
	var numbers []protoreflect.FieldNumber
	at := ""
	for name := range strings.SplitSeq(path, ".") {
		if message == nil {
			return refuse(fmt.Sprintf("%q goes too deep: %s has no fields of its own", path, at))
		}
		field := fieldByName(message, name)
		if field == nil {
			return refuse(fmt.Sprintf("%q is unknown; %q is not one of %s", path, name, strings.Join(jsonFields(message), ", ")))
		}
		numbers, message, at = append(numbers, field.Number()), nested(field), join(at, field.JSONName())
	}
	return numbers, nil
}

// add adds a path to the mask. Of two paths that overlap, the shorter one wins.
func (m mask) add(numbers []protoreflect.FieldNumber) {
	for i, number := range numbers {
		inner, there := m[number]
		switch {
		case there && len(inner) == 0:
			return
		case !there || i == len(numbers)-1:
			inner = mask{}
			m[number] = inner
		}
		m = inner
	}
}

func jsonFields(message protoreflect.MessageDescriptor) []string {
	names := make([]string, message.Fields().Len())
	for i := range names {
		names[i] = message.Fields().Get(i).JSONName()
	}
	return names
}

// compiled returns the mask for a type.
func (m mask) compiled(t *wirejson.Type) *wirejson.Mask {
	if len(m) == 0 {
		return nil
	}
	out := t.Mask()
	for number, within := range m {
		inner := (*wirejson.Mask)(nil)
		if len(within) > 0 {
			inner = within.compiled(t.Message(number))
		}
		if t.Keep(out, number, inner) != nil {
			continue // not reached: resolve has found the field
		}
	}
	return out
}

// prune clears what the mask leaves out of a message. Fields that are not in the
// contract are not in the JSON either.
func (m mask) prune(message protoreflect.Message) {
	if len(m) == 0 {
		return
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		inner, wanted := m[field.Number()]
		switch {
		case !wanted:
			message.Clear(field)
		case len(inner) == 0:
		case field.IsList():
			for i := range value.List().Len() {
				inner.prune(value.List().Get(i).Message())
			}
		default:
			inner.prune(value.Message())
		}
		return true
	})
}
