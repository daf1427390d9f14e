package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// explain returns the refusal of a request that does not fit, with everything that is
// wrong with its query, its body and, as far as they can be told from what does fit,
// with the rules of the contract.
func (q *request) explain(body []byte) error {
	request := newMessage(q.route.input)
	legible := true
	if len(bytes.TrimSpace(body)) > 0 && q.route.Body != "" {
		message := request.ProtoReflect()
		if q.route.bodyField != nil {
			message = message.Mutable(q.route.bodyField).Message()
		}
		w := walker{ctx: q.ctx, route: q.route, bound: q.path, found: &q.problems, body: body}
		if q.route.bodyField != nil {
			w.prefix = q.route.bodyField.JSONName()
		}
		legible = w.walk(message.Descriptor())
		if err := q.ctx.Err(); err != nil {
			return gone(q.ctx, err)
		}
		// What is left fits; should it not, nothing more can be told.
		legible = legible && strict.Unmarshal(w.fitting.Bytes(), message.Interface()) == nil
	}
	if legible && !q.problems.Full() {
		q.fill(request)
		q.route.rules.list(q.route, request, nil, &q.problems)
	}
	if q.problems.Empty() { // not reached: what protojson refuses, the walker refuses
		q.problems.Add("", "the body does not fit this request")
	}
	return q.problems.Err()
}

// fill sets what the query and the path set. What they cannot set is left out.
func (q *request) fill(request proto.Message) {
	for parameter, values := range q.query {
		one := map[string][]string{parameter: values}
		_ = runtime.PopulateQueryParameters(request, one, &utilities.DoubleArray{})
	}
	if q.route.PathField != "" {
		_ = runtime.PopulateFieldFromPath(request, q.route.PathField, q.path)
	}
}

// gone is the refusal of a request whose client left, or whose time ran out, before
// anything was sent.
func gone(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return apierror.New(codes.DeadlineExceeded, apierror.RequestTimeout,
			"The request timed out while the gateway was checking it. Nothing was sent to the Mesh API.").WithCause(context.Cause(ctx))
	}
	return apierror.New(codes.Canceled, apierror.ClientClosedRequest,
		"The client closed the request. Nothing was sent to the Mesh API.").WithCause(context.Cause(ctx))
}

// walker reads a JSON body beside a message descriptor and reports what does not fit.
// It keeps what does, so that the rules can be checked too. It reads each byte once,
// and stops when the request has ended.
type walker struct {
	ctx   context.Context
	route *route
	// prefix is the path of the body in the request message: "" or one field.
	prefix string
	// bound is the value of the path, which the body must not contradict.
	bound string
	found *faults

	decoder *json.Decoder
	body    []byte
	// fitting is the body without the values that do not fit. An item of a list that
	// does not fit is replaced, so that the others keep their index.
	fitting bytes.Buffer
}

// errIllegible ends the walk: past this place, nothing can be read.
var errIllegible = errors.New("the body cannot be read further")

// refuse reports a fault at a path within the body.
func (w *walker) refuse(path, description string) {
	w.found.addAt(join(w.prefix, path), path, description)
}

// stop reports a fault past which nothing can be read.
func (w *walker) stop(path, description string) error {
	w.refuse(path, description)
	return errIllegible
}

// walk reads the whole body as one message. It reports whether it could be read to
// its end.
func (w *walker) walk(message protoreflect.MessageDescriptor) bool {
	if at := firstInvalidUTF8(w.body); at >= 0 {
		w.refuse("", fmt.Sprintf("malformed JSON at %s: not UTF-8", position(w.body, at)))
		return false
	}
	w.decoder = json.NewDecoder(bytes.NewReader(w.body))
	w.decoder.UseNumber()
	if w.next() != '{' {
		// Malformed JSON is reported before a value of another kind.
		if err := w.skip("", 0); err == nil {
			w.refuse("", "the body must be a JSON object")
		}
		return false
	}
	if w.object(message, "", 1) != nil {
		return false
	}
	if _, err := w.decoder.Token(); !errors.Is(err, io.EOF) {
		w.refuse("", fmt.Sprintf("malformed JSON at %s: unexpected data after the object", position(w.body, int(w.decoder.InputOffset()))))
		return false
	}
	return true
}

// next is the first byte of the next value, 0 at the end of the body.
func (w *walker) next() byte {
	for _, c := range w.body[w.decoder.InputOffset():] {
		switch c {
		case ' ', '\t', '\r', '\n', ':', ',':
		default:
			return c
		}
	}
	return 0
}

// object reads an object. Its path is within the body.
func (w *walker) object(message protoreflect.MessageDescriptor, path string, depth int) error {
	if depth > maxDepth {
		return w.stop(path, fmt.Sprintf("is nested deeper than %d levels", maxDepth))
	}
	if _, err := w.token(path); err != nil { // the opening brace
		return err
	}
	w.fitting.WriteByte('{')
	given := make(map[protoreflect.FieldNumber]string)
	oneofs := make(map[protoreflect.Name]string)
	first := true
	for w.decoder.More() {
		if w.ctx.Err() != nil {
			return errIllegible
		}
		token, err := w.token(path)
		if err != nil {
			return err
		}
		name, _ := token.(string)
		before := w.fitting.Len()
		fits, err := w.member(message, name, path, depth, given, oneofs, first)
		if err != nil {
			return err
		}
		if fits {
			first = false
		} else {
			w.fitting.Truncate(before)
		}
	}
	w.fitting.WriteByte('}')
	_, err := w.token(path) // the closing brace
	return err
}

// member reads the value of a member whose name has been read, and reports whether
// both fit.
func (w *walker) member(message protoreflect.MessageDescriptor, name, path string, depth int,
	given map[protoreflect.FieldNumber]string, oneofs map[protoreflect.Name]string, first bool,
) (bool, error) {
	field := fieldByName(message, name)
	if field == nil {
		w.refuse(join(path, name), "unknown field")
		return false, w.skip(path, depth)
	}
	at := join(path, field.JSONName())
	if other, twice := given[field.Number()]; twice {
		if other == name {
			w.refuse(at, "duplicate field")
		} else {
			w.refuse(at, fmt.Sprintf("duplicate field: given as %s and as %s", other, name))
		}
		return false, w.skip(at, depth)
	}
	given[field.Number()] = name

	if w.next() == 'n' { // null is an absent field
		raw, err := w.scalar(at)
		if err == nil && string(raw) != "null" {
			w.refuse(at, expected(field))
		}
		return false, err
	}
	if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		if other, taken := oneofs[oneof.Name()]; taken {
			w.refuse(at, fmt.Sprintf("only one of %s and %s can be given", other, at))
			return false, w.skip(at, depth)
		}
		oneofs[oneof.Name()] = at
	}
	if !first {
		w.fitting.WriteByte(',')
	}
	w.fitting.WriteString(strconv.Quote(field.JSONName()) + ":") // the name of a field is ASCII
	fits, err := w.value(field, at, depth)
	if !fits {
		if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
			w.found.cover(join(w.prefix, join(path, string(oneof.Name()))))
		}
	}
	return fits, err
}

// value reads the value of a field, or of a list all items, and reports whether it
// fits.
func (w *walker) value(field protoreflect.FieldDescriptor, at string, depth int) (bool, error) {
	if !field.IsList() {
		return w.item(field, at, depth)
	}
	if w.next() != '[' {
		w.refuse(at, "must be a JSON array")
		return false, w.skip(at, depth)
	}
	if _, err := w.token(at); err != nil { // the opening bracket
		return false, err
	}
	w.fitting.WriteByte('[')
	for i := 0; w.decoder.More(); i++ {
		if w.ctx.Err() != nil {
			return false, errIllegible
		}
		if i > 0 {
			w.fitting.WriteByte(',')
		}
		before := w.fitting.Len()
		fits, err := w.item(field, at+"["+strconv.Itoa(i)+"]", depth)
		if err != nil {
			return false, err
		}
		if !fits {
			w.fitting.Truncate(before)
			w.fitting.WriteString(placeholder(field))
		}
	}
	w.fitting.WriteByte(']')
	_, err := w.token(at) // the closing bracket
	return true, err
}

// item reads a value of a field that is not a list, or one item of a list.
func (w *walker) item(field protoreflect.FieldDescriptor, at string, depth int) (bool, error) {
	kind := w.next()
	if message := nested(field); message != nil {
		if kind == '{' {
			return true, w.object(message, at, depth+1)
		}
		w.refuse(at, "must be a JSON object")
		return false, w.skip(at, depth)
	}
	if kind == '{' || kind == '[' {
		w.refuse(at, expected(field))
		return false, w.skip(at, depth)
	}
	raw, err := w.scalar(at)
	if err != nil {
		return false, err
	}
	if !valueFits(field, raw) {
		w.refuse(at, expected(field))
		return false, nil
	}
	w.fitting.Write(raw)
	if field == w.route.pathInBody && !strings.ContainsAny(at, ".[") {
		var said string
		if json.Unmarshal(raw, &said) == nil && said != "" && said != w.bound {
			w.refuse(at, fmt.Sprintf("is %q in the path but has a different value in the body", w.bound))
		}
	}
	return true, nil
}

// placeholder is a value that fits a field.
func placeholder(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind:
		return `""`
	case protoreflect.BoolKind:
		return "false"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if nested(field) == nil {
			return `"1970-01-01T00:00:00Z"` // the only well-known type in lists is a time
		}
		return "{}"
	}
	return "0"
}

func (w *walker) token(at string) (json.Token, error) {
	token, err := w.decoder.Token()
	if err != nil {
		return nil, w.malformed(at, err)
	}
	return token, nil
}

// scalar reads a value that is neither an object nor an array, as it is written.
func (w *walker) scalar(at string) (json.RawMessage, error) {
	var raw json.RawMessage
	if err := w.decoder.Decode(&raw); err != nil {
		return nil, w.malformed(at, err)
	}
	return raw, nil
}

// skip reads over a value.
func (w *walker) skip(at string, depth int) error {
	for open := 0; ; {
		token, err := w.token(at)
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if open++; depth+open > maxDepth {
				return w.stop(at, fmt.Sprintf("is nested deeper than %d levels", maxDepth))
			}
		case json.Delim('}'), json.Delim(']'):
			open--
		}
		if open <= 0 {
			return nil
		}
		if w.ctx.Err() != nil {
			return errIllegible
		}
	}
}

func (w *walker) malformed(at string, err error) error {
	offset := int(w.decoder.InputOffset())
	reason := strings.TrimPrefix(err.Error(), "json: ")
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = max(0, int(syntax.Offset)-1)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		offset, reason = len(w.body), "unexpected end of input"
	}
	return w.stop(at, fmt.Sprintf("malformed JSON at %s: %s", position(w.body, offset), reason))
}

// valueFits reports whether a JSON value that is neither an object nor an array is a
// value of the field, or an item of it. protojson has the last word, so that the two
// cannot disagree.
func valueFits(field protoreflect.FieldDescriptor, raw json.RawMessage) bool {
	switch kind := field.Kind(); kind {
	case protoreflect.BoolKind:
		return string(raw) == "true" || string(raw) == "false"
	case protoreflect.EnumKind:
		// protojson takes any number for an enum.
		if number, err := strconv.ParseInt(string(raw), 10, 32); err == nil {
			return field.Enum().Values().ByNumber(protoreflect.EnumNumber(number)) != nil
		}
		if name, err := strconv.Unquote(string(raw)); err == nil && field.Enum().Values().ByName(protoreflect.Name(name)) != nil {
			return true
		}
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		if _, err := strconv.ParseInt(string(raw), 10, bitSize(kind)); err == nil {
			return true
		}
		// ProtoJSON takes 1.0 and 1e2 for integers. A short one is exact as a float.
		if number, err := strconv.ParseFloat(string(raw), 64); err == nil && len(raw) <= maxExactDigits {
			if whole := number == math.Trunc(number); !whole || math.Abs(number) <= math.MaxInt32 {
				return whole
			}
		}
	case protoreflect.StringKind:
		if len(raw) < 2 || raw[0] != '"' {
			return false
		}
		if bytes.IndexByte(raw, '\\') < 0 || !bytes.Contains(raw, []byte(`\u`)) {
			return true
		}
		// Half of a surrogate pair is no character.
		var text string
		return json.Unmarshal(raw, &text) == nil && strings.Count(text, "\uFFFD") == bytes.Count(bytes.ToLower(raw), []byte(`\ufffd`))+bytes.Count(raw, []byte("\uFFFD"))
	}
	if field.IsList() {
		raw = append(append([]byte{'['}, raw...), ']')
	}
	member, err := json.Marshal(map[string]json.RawMessage{field.JSONName(): raw})
	return err == nil && protojson.Unmarshal(member, dynamicpb.NewMessage(field.ContainingMessage())) == nil
}

// maxExactDigits is the length of a number that a float64 holds exactly.
const maxExactDigits = 15

func bitSize(kind protoreflect.Kind) int {
	if kind == protoreflect.Int32Kind {
		return 32
	}
	return 64
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
		return "must be a 64-bit integer, preferably sent as a string"
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "must be an unsigned 64-bit integer, preferably sent as a string"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "must be a number"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if field.Message().FullName() == "google.protobuf.Timestamp" {
			return "must be an RFC 3339 time such as 2026-01-31T09:30:00Z"
		}
	}
	return "has a value of the wrong type"
}

// position is where in the body a fault is, as an editor counts.
func position(body []byte, offset int) string {
	before := body[:min(offset, len(body))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("line %d, column %d", line, column)
}

// firstInvalidUTF8 is the offset of the first byte that is not part of UTF-8 text, -1
// where there is none.
func firstInvalidUTF8(body []byte) int {
	if utf8.Valid(body) {
		return -1
	}
	at := 0
	for at < len(body) {
		r, size := utf8.DecodeRune(body[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}
