package contract

import (
	"net/http"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Lookup returns the method that shows whether a call of a write took effect, and the path of its
// URL. It is the read of the resource that the call changes (AIP-131), or the list that it adds to
// (AIP-132). The request may be of any type; one of another type than the method's has no name.
// Lookup returns nil if there is no such read.
func (m *Method) Lookup(request protoreflect.Message) (read *Method, path string) {
	binding := m.Bindings[0]
	path, _, _ = strings.Cut(binding.pattern, ":")
	if binding.PathField != "" {
		name := stringAt(request, binding.PathField)
		if name == "" {
			return nil, ""
		}
		path = strings.Replace(path, binding.variable, name, 1)
	}
	found, _ := Match(path)
	if found == nil {
		return nil, ""
	}
	if get := found.Binding(http.MethodGet); get != nil {
		return get.Method, path
	}
	return nil, ""
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
