package gateway

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// readQuery reads the query once, for the generated handler too. A parameter is a
// field that neither the path nor the body sets, a nested one with dots, in either
// spelling. The runtime alone would ignore unknown parameters.
func (q *request) readQuery(values url.Values, malformed error, chosen format) {
	q.query = values
	if malformed != nil {
		q.problems.Add("", "the query string is malformed: "+malformed.Error())
	}
	if len(values) == 0 {
		return
	}
	if chosen == asWorkbook && values.Get(wire.AltParameter) == wire.AltMedia {
		delete(values, wire.AltParameter)
	}
	q.readMask(chosen)

	given := make(map[string]string, len(values)) // the canonical path to the spelling that came first
	for _, parameter := range sortedKeys(values) {
		path, field, problem := q.route.parameter(parameter)
		switch {
		case problem != nil:
			q.problems.Add(problem.Field, problem.Description)
		case given[path] != "":
			q.problems.Add(parameter, "is the same parameter as "+given[path]+"; send one of them")
		case len(values[parameter]) > 1 && !field.IsList():
			q.problems.Add(parameter, "was sent "+strconv.Itoa(len(values[parameter]))+" times but accepts one value")
		case !q.checkValues(parameter, field, values[parameter]):
		default:
			given[path] = parameter
			continue
		}
		if path != "" {
			given[path] = parameter
			q.problems.cover(path)
		}
		delete(values, parameter)
	}
}

// checkValues reports whether all values of a parameter fit its field.
func (q *request) checkValues(parameter string, field protoreflect.FieldDescriptor, values []string) bool {
	fit := true
	for _, value := range values {
		if !textFits(field, value) {
			q.problems.Add(parameter, expected(field))
			fit = false
		}
	}
	return fit
}

// textFits reports whether the text of a query parameter is a value of the field.
func textFits(field protoreflect.FieldDescriptor, value string) bool {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return value == "true" || value == "false"
	case protoreflect.StringKind:
		return utf8.ValidString(value)
	case protoreflect.EnumKind:
		if field.Enum().Values().ByName(protoreflect.Name(value)) != nil {
			return true
		}
		if number, err := strconv.ParseInt(value, 10, 32); err == nil {
			return field.Enum().Values().ByNumber(protoreflect.EnumNumber(number)) != nil
		}
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		_, err := strconv.ParseInt(value, 10, bitSize(field.Kind()))
		return err == nil
	}
	if !utf8.ValidString(value) {
		return false
	}
	raw, err := json.Marshal(value)
	return err == nil && valueFits(field, raw)
}

// parameter is a query parameter of a route.
type parameter struct {
	path  string // in JSON spelling
	field protoreflect.FieldDescriptor
}

// parameter returns the path and the field of a query parameter, or what is wrong with it. Both of
// the usual spellings are looked up; others, such as a mixture of them, are parsed.
func (rt *route) parameter(name string) (path string, field protoreflect.FieldDescriptor, problem *apierror.Violation) {
	if known, ok := rt.parameters[name]; ok {
		return known.path, known.field, nil
	}
	return rt.queryField(name)
}

// queryField finds the field of a parameter and its path in JSON spelling. It refuses a
// parameter that has no field; the path is known even then, if there is one.
func (rt *route) queryField(parameter string) (path string, field protoreflect.FieldDescriptor, problem *apierror.Violation) {
	refuse := func(path, description string) (string, protoreflect.FieldDescriptor, *apierror.Violation) {
		return path, nil, &apierror.Violation{Field: parameter, Description: description}
	}
	unknown := func() (string, protoreflect.FieldDescriptor, *apierror.Violation) {
		known := rt.queryParameters()
		if len(known) == 0 {
			return refuse("", "unknown query parameter; this method takes none")
		}
		return refuse("", "unknown query parameter; this method takes "+strings.Join(known, ", "))
	}
	if rt.Body == "*" {
		return unknown()
	}
	message := rt.input
	var names, jsonNames []string
	for name := range strings.SplitSeq(parameter, ".") {
		if message == nil {
			return unknown()
		}
		if field = fieldByName(message, name); field == nil {
			return unknown()
		}
		names, jsonNames = append(names, string(field.Name())), append(jsonNames, field.JSONName())
		message = nested(field)
	}
	path = strings.Join(jsonNames, ".")
	switch {
	case strings.Join(names, ".") == rt.PathField:
		return refuse(path, "is set by the path")
	case names[0] == rt.Body:
		return refuse("", "is sent in the body")
	case message != nil:
		var fields []string
		for i := range message.Fields().Len() {
			fields = append(fields, parameter+"."+message.Fields().Get(i).JSONName())
		}
		return refuse(path, "has fields of its own; send "+strings.Join(fields, ", "))
	}
	return path, field, nil
}

// queryParameters lists what a route takes in its query, in JSON spelling.
func (rt *route) queryParameters() []string {
	var names []string
	if rt.takesMask() {
		names = append(names, wire.FieldsParameter)
	}
	rt.walkQuery(func(json, _ string, _ protoreflect.FieldDescriptor) { names = append(names, json) })
	slices.Sort(names)
	return names
}

// walkQuery calls visit with the fields that a route takes in its query, in both spellings.
func (rt *route) walkQuery(visit func(json, proto string, field protoreflect.FieldDescriptor)) {
	if rt.Body == "*" {
		return
	}
	var walk func(message protoreflect.MessageDescriptor, json, proto string)
	walk = func(message protoreflect.MessageDescriptor, json, proto string) {
		for i := range message.Fields().Len() {
			field := message.Fields().Get(i)
			json, proto := json+field.JSONName(), proto+string(field.Name())
			if proto == rt.Body || proto == rt.PathField {
				continue
			}
			if inner := nested(field); inner != nil {
				walk(inner, json+".", proto+".")
			} else {
				visit(json, proto, field)
			}
		}
	}
	walk(rt.input, "", "")
}

// takesMask reports whether the route takes the parameter of partial answers. Every
// READ does, and the answer to a WRITE is always whole: it may contain an API key that is shown once.
func (rt *route) takesMask() bool { return !rt.Method.Write }

func sortedKeys(values url.Values) []string {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
