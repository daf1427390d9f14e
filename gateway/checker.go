package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// maxDepth bounds the nesting of a body. The contract's types recurse (a
// company is connected to companies); protobuf implementations commonly refuse
// more than 100 levels.
const maxDepth = 100

// checker walks a JSON body beside a message descriptor and collects all that
// does not fit. It reads each byte once. It decides names, repetition and
// structure itself; whether a value suits its field is protojson's word, so
// that the two cannot disagree.
type checker struct {
	violations []apierror.Violation
	// boundField is the field that the path binds, and bound its value: a body
	// that says otherwise is refused rather than overruled in silence.
	boundField, bound string

	decoder *json.Decoder
	body    []byte
}

// errStop ends the walk at a fault of syntax, past which nothing can be read.
var errStop = errors.New("malformed JSON")

func (c *checker) refuse(field, format string, args ...any) {
	c.violations = append(c.violations, apierror.Violation{Field: field, Description: fmt.Sprintf(format, args...)})
}

// document checks a whole body as one message at path.
func (c *checker) document(message protoreflect.MessageDescriptor, path string, body []byte) {
	if at := firstInvalidUTF8(body); at >= 0 {
		c.refuse(path, "malformed JSON at %s: not UTF-8", position(body, at))
		return
	}
	c.body = body
	c.decoder = json.NewDecoder(bytes.NewReader(body))
	c.decoder.UseNumber()
	token, err := c.token(path)
	if err != nil {
		return
	}
	if token != json.Delim('{') {
		c.refuse(path, "the body must be a JSON object")
		return
	}
	if c.object(message, path, 1) != nil {
		return
	}
	if _, err := c.decoder.Token(); !errors.Is(err, io.EOF) {
		c.refuse(path, "malformed JSON at %s: something follows the object", position(body, int(c.decoder.InputOffset())))
	}
}

// object checks the members of an object whose brace has been read.
func (c *checker) object(message protoreflect.MessageDescriptor, path string, depth int) error {
	if depth > maxDepth {
		c.refuse(path, "is nested deeper than %d levels", maxDepth)
		return errStop
	}
	set := make(map[protoreflect.FieldNumber]string)
	oneofs := make(map[protoreflect.Name]string)
	for c.decoder.More() {
		token, err := c.token(path)
		if err != nil {
			return err
		}
		name, _ := token.(string)
		field := fieldByName(message, name)
		if field == nil {
			c.refuse(join(path, name), "unknown field")
			if err := c.skip(path); err != nil {
				return err
			}
			continue
		}
		at := join(path, field.JSONName())
		if other, twice := set[field.Number()]; twice {
			if other == name {
				c.refuse(at, "duplicate field")
			} else {
				c.refuse(at, "duplicate field: given as %s and as %s", other, name)
			}
		}
		set[field.Number()] = name
		if err := c.member(field, at, depth, func() {
			if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
				if other, taken := oneofs[oneof.Name()]; taken && other != at {
					c.refuse(at, "only one of %s and %s can be given", other, at)
				}
				oneofs[oneof.Name()] = at
			}
		}); err != nil {
			return err
		}
	}
	_, err := c.token(path) // the closing brace
	return err
}

// member checks the value of a field; present is called unless it is null,
// which ProtoJSON takes for absent.
func (c *checker) member(field protoreflect.FieldDescriptor, at string, depth int, present func()) error {
	message := nested(field)
	if message == nil && !field.IsList() {
		raw, err := c.raw(at)
		if err != nil {
			return err
		}
		if string(raw) == "null" {
			return nil
		}
		present()
		c.value(field, at, raw)
		return nil
	}

	token, err := c.token(at)
	if err != nil || token == nil {
		return err
	}
	present()
	if !field.IsList() {
		if token != json.Delim('{') {
			c.refuse(at, "must be a JSON object")
			return c.skipRest(token, at)
		}
		return c.object(message, at, depth+1)
	}

	if token != json.Delim('[') {
		c.refuse(at, "must be a JSON array")
		return c.skipRest(token, at)
	}
	for i := 0; c.decoder.More(); i++ {
		item := at + "[" + strconv.Itoa(i) + "]"
		if message == nil {
			raw, err := c.raw(item)
			if err != nil {
				return err
			}
			c.value(field, item, raw)
			continue
		}
		token, err := c.token(item)
		if err != nil {
			return err
		}
		if token != json.Delim('{') {
			c.refuse(item, "must be a JSON object")
			if err := c.skipRest(token, item); err != nil {
				return err
			}
			continue
		}
		if err := c.object(message, item, depth+1); err != nil {
			return err
		}
	}
	_, err = c.token(at) // the closing bracket
	return err
}

// value checks one scalar, enum or timestamp.
func (c *checker) value(field protoreflect.FieldDescriptor, at string, raw json.RawMessage) {
	if problem := checkValue(field, raw); problem != "" {
		c.refuse(at, "%s", problem)
		return
	}
	if at == c.boundField {
		var said string
		if json.Unmarshal(raw, &said) == nil && said != "" && said != c.bound {
			c.refuse(at, "is %q in the path, but another value in the body", c.bound)
		}
	}
}

func (c *checker) token(at string) (json.Token, error) {
	token, err := c.decoder.Token()
	if err != nil {
		return nil, c.syntax(at, err)
	}
	return token, nil
}

func (c *checker) raw(at string) (json.RawMessage, error) {
	var raw json.RawMessage
	if err := c.decoder.Decode(&raw); err != nil {
		return nil, c.syntax(at, err)
	}
	return raw, nil
}

func (c *checker) skip(at string) error {
	_, err := c.raw(at)
	return err
}

// skipRest passes over what remains of a value whose first token has been read.
func (c *checker) skipRest(token json.Token, at string) error {
	for open := nesting(token); open > 0; {
		next, err := c.token(at)
		if err != nil {
			return err
		}
		open += nesting(next)
	}
	return nil
}

// nesting is how many levels deeper a token leads.
func nesting(token json.Token) int {
	switch token {
	case json.Delim('{'), json.Delim('['):
		return 1
	case json.Delim('}'), json.Delim(']'):
		return -1
	}
	return 0
}

func (c *checker) syntax(at string, err error) error {
	offset := int(c.decoder.InputOffset())
	reason := strings.TrimPrefix(err.Error(), "json: ")
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = max(0, int(syntax.Offset)-1)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		offset, reason = len(c.body), "it ends too early"
	}
	c.refuse(at, "malformed JSON at %s: %s", position(c.body, offset), reason)
	return errStop
}

// nested is the message whose fields a value of the field has; nil for
// scalars, enums and the well-known types, which are written as one value.
func nested(field protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	message := field.Message()
	if message == nil || field.IsMap() || message.FullName().Parent() == "google.protobuf" {
		return nil
	}
	return message
}

// checkText checks a value given as text in a query.
func checkText(field protoreflect.FieldDescriptor, value string) string {
	switch field.Kind() {
	case protoreflect.BoolKind:
		if value != "true" && value != "false" {
			return "must be true or false"
		}
		return ""
	case protoreflect.EnumKind:
		if number, err := strconv.ParseInt(value, 10, 32); err == nil {
			return checkValue(field, json.RawMessage(strconv.FormatInt(number, 10)))
		}
	}
	if !utf8.ValidString(value) {
		return "must be UTF-8"
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return "must be UTF-8"
	}
	return checkValue(field, raw)
}

// checkValue says what is wrong with one JSON value for the field, or for an
// item of it; "" is nothing.
func checkValue(field protoreflect.FieldDescriptor, raw json.RawMessage) string {
	if field.Kind() == protoreflect.EnumKind {
		// protojson takes any number for an enum.
		if number, err := strconv.ParseInt(string(raw), 10, 32); err == nil {
			if field.Enum().Values().ByNumber(protoreflect.EnumNumber(number)) != nil {
				return ""
			}
			return expected(field)
		}
	}
	if field.IsList() {
		raw = append(append([]byte{'['}, raw...), ']')
	}
	member, err := json.Marshal(map[string]json.RawMessage{field.JSONName(): raw})
	if err != nil || protojson.Unmarshal(member, dynamicpb.NewMessage(field.ContainingMessage())) != nil {
		return expected(field)
	}
	return ""
}

// expected says what a value of the field looks like.
func expected(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.EnumKind:
		var names []string
		values := field.Enum().Values()
		for i := range values.Len() {
			if values.Get(i).Number() != 0 {
				names = append(names, string(values.Get(i).Name()))
			}
		}
		return "must be one of " + strings.Join(names, ", ")
	case protoreflect.BoolKind:
		return "must be true or false"
	case protoreflect.StringKind:
		return "must be a string"
	case protoreflect.BytesKind:
		return "must be a base64 string"
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return "must be a 32-bit integer"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return "must be an unsigned 32-bit integer"
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return "must be a 64-bit integer, best sent as a string"
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "must be an unsigned 64-bit integer, best sent as a string"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "must be a number"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if field.Message().FullName() == "google.protobuf.Timestamp" {
			return "must be an RFC 3339 time such as 2026-01-31T09:30:00Z"
		}
	}
	return "has a value that does not fit its type"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// position is where in the body a fault is, as an editor counts.
func position(body []byte, offset int) string {
	before := body[:min(offset, len(body))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("line %d, column %d", line, column)
}

func firstInvalidUTF8(body []byte) int {
	for at := 0; at < len(body); {
		r, size := utf8.DecodeRune(body[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}
