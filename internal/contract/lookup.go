package contract

import (
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Lookup returns the RPC that shows whether a call of a write took effect, by its full name, and the
// path of its GET request. It is the read of the resource that the call changes (AIP-131), or the
// list that it adds to (AIP-132). Both are "" if the request has no name of a resource, or is not of
// the method's type. The method and the request may be nil if they are not known.
func (m *Method) Lookup(request proto.Message) (rpc, path string) {
	if m == nil || request == nil {
		return "", ""
	}
	binding := m.Bindings[0]
	path, _, _ = strings.Cut(binding.pattern, ":")
	if binding.PathField != "" {
		name := stringAt(request.ProtoReflect(), binding.PathField)
		if name == "" {
			return "", ""
		}
		path = strings.Replace(path, binding.variable, name, 1)
	}
	found, _ := Match(path)
	if found == nil {
		return "", ""
	}
	read := found.Binding(http.MethodGet)
	if read == nil {
		return "", ""
	}
	return read.Method.Name(), path
}

// Resource returns the name of the resource that a request is for, or "" if it has none, such as one
// that creates a resource. The request may be nil.
func (m *Method) Resource(request proto.Message) string {
	if request == nil || m.Bindings[0].PathField == "" {
		return ""
	}
	return stringAt(request.ProtoReflect(), m.Bindings[0].PathField)
}

// ResourceIn returns the name of the resource in the path of a request, still escaped, or "" if the path
// has none. It is for requests that have no message, because they were refused before.
func (m *Method) ResourceIn(path string) string {
	found, segment := Match(path)
	if found == nil || segment == "" {
		return ""
	}
	for _, binding := range found.bindings {
		if binding.Method == m && binding.PathField != "" {
			return binding.PathValue(segment)
		}
	}
	return ""
}

// stringAt returns the string at a path of fields, or "" if there is none.
func stringAt(message protoreflect.Message, path string) string {
	for {
		name, rest, nested := strings.Cut(path, ".")
		field := message.Descriptor().Fields().ByTextName(name)
		switch {
		case field == nil || field.IsList() || field.IsMap():
			return ""
		case !nested && field.Kind() == protoreflect.StringKind:
			return message.Get(field).String()
		case !nested || field.Message() == nil:
			return ""
		}
		message, path = message.Get(field).Message(), rest
	}
}
