package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// fieldsParameter is the query parameter of partial responses (AIP-157).
const fieldsParameter = "fields"

// mask is the part of an answer that was asked for: the fields by JSON name,
// each with the part of itself. An empty mask is all of it.
type mask map[string]mask

type maskKey struct{}

// takeMask takes the parameter from the query and keeps what it says beside the
// request.
func takeMask(r *http.Request, answer protoreflect.MessageDescriptor) (*http.Request, []apierror.Violation) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || !query.Has(fieldsParameter) {
		return r, nil // inspectQuery words what is malformed
	}
	wanted, violations := readMask(answer, query[fieldsParameter])
	query.Del(fieldsParameter)
	r = r.Clone(context.WithValue(r.Context(), maskKey{}, wanted))
	r.URL.RawQuery = query.Encode()
	return r, violations
}

// readMask resolves field paths, in JSON or proto spelling, separated by commas.
// A path goes through lists: "accounts.name" is the name of each account.
func readMask(message protoreflect.MessageDescriptor, lists []string) (mask, []apierror.Violation) {
	var violations []apierror.Violation
	wanted, all := mask{}, false
	for path := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		if path = strings.TrimSpace(path); path == "*" {
			all = true
			continue
		}
		names, problem := resolve(message, path)
		if problem != "" {
			violations = append(violations, apierror.Violation{Field: fieldsParameter, Description: problem})
			continue
		}
		wanted.add(names)
	}
	if all {
		wanted = mask{}
	}
	return wanted, violations
}

// resolve spells a path as JSON does, or says what is wrong with it.
func resolve(message protoreflect.MessageDescriptor, path string) (names []string, problem string) {
	if path == "" {
		return nil, "names no field; write paths of the answer with commas between them, such as " + strings.Join(jsonFields(message), ",")
	}
	for name := range strings.SplitSeq(path, ".") {
		if message == nil {
			return nil, fmt.Sprintf("%q goes too deep: %s has no fields of its own", path, strings.Join(names, "."))
		}
		field := fieldByName(message, name)
		if field == nil {
			return nil, fmt.Sprintf("%q is unknown: there is no %q among %s", path, name, strings.Join(jsonFields(message), ", "))
		}
		names, message = append(names, field.JSONName()), nested(field)
	}
	return names, ""
}

// add puts a path into the mask. Of two that overlap, the shorter has it all.
func (m mask) add(names []string) {
	for i, name := range names {
		inner, there := m[name]
		switch {
		case there && len(inner) == 0:
			return
		case !there || i == len(names)-1:
			inner = mask{}
			m[name] = inner
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

// prune copies the members that the mask has, at each level. It works on the
// JSON rather than on the message, so that an answer need never be one.
func (m mask) prune(body []byte) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(len(body))
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := m.copyValue(&out, decoder); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func (m mask) copyValue(out *bytes.Buffer, decoder *json.Decoder) error {
	if len(m) == 0 {
		return copyWhole(out, decoder)
	}
	open, err := decoder.Token()
	if err != nil {
		return err
	}
	first := true
	separate := func() {
		if !first {
			out.WriteByte(',')
		}
		first = false
	}
	switch open {
	case json.Delim('{'):
		out.WriteByte('{')
		for decoder.More() {
			token, err := decoder.Token()
			if err != nil {
				return err
			}
			name, _ := token.(string)
			inner, wanted := m[name]
			if !wanted {
				var skipped json.RawMessage
				if err := decoder.Decode(&skipped); err != nil {
					return err
				}
				continue
			}
			separate()
			out.WriteString(strconv.Quote(name) + ":") // the name of a field is ASCII
			if err := inner.copyValue(out, decoder); err != nil {
				return err
			}
		}
		out.WriteByte('}')
	case json.Delim('['):
		out.WriteByte('[')
		for decoder.More() {
			separate()
			if err := m.copyValue(out, decoder); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	default:
		return fmt.Errorf("gateway: %v where a message is due", open)
	}
	_, err = decoder.Token() // what closes it
	return err
}

func copyWhole(out *bytes.Buffer, decoder *json.Decoder) error {
	var value json.RawMessage
	if err := decoder.Decode(&value); err != nil {
		return err
	}
	out.Write(value)
	return nil
}

// partial returns w as the generated handlers write to it: it lets through what
// was asked for of each message, and errors whole. A write is one message.
func partial(ctx context.Context, w http.ResponseWriter) http.ResponseWriter {
	wanted, _ := ctx.Value(maskKey{}).(mask)
	if len(wanted) == 0 {
		return w
	}
	end, ok := ctx.Value(outcomeKey{}).(*outcome)
	if !ok {
		end = new(outcome)
	}
	return &partialWriter{ResponseWriter: w, wanted: wanted, end: end}
}

type partialWriter struct {
	http.ResponseWriter
	wanted mask
	end    *outcome
	failed bool
}

func (w *partialWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *partialWriter) WriteHeader(status int) {
	w.failed = w.failed || status >= http.StatusBadRequest
	w.ResponseWriter.WriteHeader(status)
}

func (w *partialWriter) Write(data []byte) (int, error) {
	if w.failed || w.end.failed || len(data) == 0 {
		return w.ResponseWriter.Write(data)
	}
	kept, err := w.wanted.prune(data)
	if err != nil {
		return 0, err
	}
	if w.Header().Get("Content-Length") != "" {
		w.Header().Set("Content-Length", strconv.Itoa(len(kept)))
	}
	if _, err := w.ResponseWriter.Write(kept); err != nil {
		return 0, err
	}
	return len(data), nil
}
