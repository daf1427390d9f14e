package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// inspect holds the query and the JSON body against the request's descriptor
// and refuses what does not fit, all of it in one answer. The runtime alone
// would drop unknown parameters in silence and stop at the first fault of a
// body.
func inspect(method *Method, binding *contract.Binding, next http.Handler) http.Handler {
	input := method.Descriptor.Input()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var violations []apierror.Violation
		if !method.Write {
			r, violations = takeMask(r, method.Descriptor.Output())
		}
		violations = append(violations, inspectQuery(method, binding, r.URL.RawQuery)...)

		if hasBody(r) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				apierror.Write(w, r, unreadable(err))
				return
			}
			violations = append(violations, inspectBody(input, binding, pathValue(r, binding), body)...)
			r.Body = io.NopCloser(bytes.NewReader(body))
		}

		if len(violations) > 0 {
			apierror.Write(w, r, apierror.Invalid(violations...))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// unreadable words a body that did not arrive.
func unreadable(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return apierror.New(codes.ResourceExhausted, apierror.BodyTooLarge,
			"The body is larger than "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes, the most that is taken.").
			WithHTTPStatus(http.StatusRequestEntityTooLarge)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return apierror.New(codes.DeadlineExceeded, apierror.RequestTimeout,
			"The body did not arrive in time. Nothing was done.").WithHTTPStatus(http.StatusRequestTimeout)
	}
	return apierror.New(codes.Canceled, apierror.ClientClosedRequest, "The body ended early. Nothing was done.")
}

// pathValue is what the path binds its field to, "groups/…"; "" where the
// route has no variable.
func pathValue(r *http.Request, binding *contract.Binding) string {
	if binding.PathField == "" {
		return ""
	}
	id := chi.URLParam(r, "id")
	if unescaped, err := url.PathUnescape(id); err == nil {
		id = unescaped
	}
	return binding.PathValue(id)
}

func inspectBody(input protoreflect.MessageDescriptor, binding *contract.Binding, bound string, body []byte) []apierror.Violation {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	c := checker{bound: bound}
	if binding.PathField != "" {
		c.boundField = jsonNames(input, binding.PathField)
	}
	switch binding.Body {
	case "":
		return []apierror.Violation{{Description: "this method takes no body; send fields as query parameters"}}
	case "*":
		c.document(input, "", body)
	default:
		field := input.Fields().ByTextName(binding.Body)
		c.document(field.Message(), field.JSONName(), body)
	}
	return c.violations
}

// inspectQuery checks names and values. A parameter is a field that neither
// path nor body binds, nested ones with dots, in either spelling.
func inspectQuery(method *Method, binding *contract.Binding, query string) []apierror.Violation {
	if query == "" {
		return nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return []apierror.Violation{{Description: "the query string is malformed: " + err.Error()}}
	}
	var violations []apierror.Violation
	refuse := func(parameter, description string) {
		violations = append(violations, apierror.Violation{Field: parameter, Description: description})
	}
	given := make(map[string]string) // canonical path to the spelling first seen
	for _, parameter := range sortedKeys(values) {
		path, field, problem := queryField(method, binding, parameter)
		if problem != "" {
			refuse(parameter, problem)
			continue
		}
		if other, twice := given[path]; twice {
			refuse(parameter, "is the same parameter as "+other+"; send one of them")
			continue
		}
		given[path] = parameter
		if len(values[parameter]) > 1 && !field.IsList() {
			refuse(parameter, "is given "+strconv.Itoa(len(values[parameter]))+" times, but takes one value")
			continue
		}
		for _, value := range values[parameter] {
			if problem := checkText(field, value); problem != "" {
				refuse(parameter, problem)
			}
		}
	}
	return violations
}

// queryField resolves a parameter, or says why it is none.
func queryField(method *Method, binding *contract.Binding, parameter string) (string, protoreflect.FieldDescriptor, string) {
	unknown := func() string {
		known := queryParameters(method, binding)
		if len(known) == 0 {
			return "unknown query parameter; this method takes none"
		}
		return "unknown query parameter; this method takes " + strings.Join(known, ", ")
	}
	if binding.Body == "*" {
		return "", nil, unknown()
	}
	message := method.Descriptor.Input()
	var path []string
	var field protoreflect.FieldDescriptor
	for name := range strings.SplitSeq(parameter, ".") {
		if message == nil {
			return "", nil, unknown()
		}
		if field = fieldByName(message, name); field == nil {
			return "", nil, unknown()
		}
		path = append(path, string(field.Name()))
		message = nested(field)
	}
	canonical := strings.Join(path, ".")
	switch {
	case canonical == binding.PathField:
		return "", nil, "is set by the path"
	case path[0] == binding.Body:
		return "", nil, "is sent in the body"
	case message != nil:
		var fields []string
		for i := range message.Fields().Len() {
			fields = append(fields, parameter+"."+message.Fields().Get(i).JSONName())
		}
		return "", nil, "has fields of its own; send " + strings.Join(fields, ", ")
	}
	return canonical, field, ""
}

// queryParameters lists what a route takes in its query, in JSON spelling.
func queryParameters(method *Method, binding *contract.Binding) []string {
	var names []string
	if !method.Write {
		names = append(names, fieldsParameter)
	}
	if binding.Body == "*" {
		return names
	}
	var walk func(message protoreflect.MessageDescriptor, json, proto string)
	walk = func(message protoreflect.MessageDescriptor, json, proto string) {
		for i := range message.Fields().Len() {
			field := message.Fields().Get(i)
			json, proto := json+field.JSONName(), proto+string(field.Name())
			if proto == binding.Body || proto == binding.PathField {
				continue
			}
			if inner := nested(field); inner != nil {
				walk(inner, json+".", proto+".")
			} else {
				names = append(names, json)
			}
		}
	}
	walk(method.Descriptor.Input(), "", "")
	slices.Sort(names)
	return names
}

func sortedKeys(values url.Values) []string {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
