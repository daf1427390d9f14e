package gateway

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// Method is an RPC of the Mesh API and what its contract says about it.
type Method struct{ method *contract.Method }

// Route is an HTTP route of a method.
type Route struct {
	// Verb is the HTTP method. A route of GET serves HEAD too.
	Verb string
	// Template is the path in the syntax of google.api.http, such as
	// "/v1/{name=groups/*}".
	Template string
}

// Name is the name of the method on the gRPC wire, such as
// "/meshtrade.iam.group.v1.GroupService/GetGroup".
func (m Method) Name() string { return m.method.Name() }

// Writes reports whether the method changes state. The gateway sends it once and never
// repeats it.
func (m Method) Writes() bool { return m.method.Write }

// Public reports whether the method needs neither an API key nor a group.
func (m Method) Public() bool { return m.method.Public }

// Streams reports whether the method answers with a stream.
func (m Method) Streams() bool { return m.method.Streams() }

// Routes returns the HTTP routes of the method, the primary one first.
func (m Method) Routes() []Route {
	routes := make([]Route, len(m.method.Bindings))
	for i, binding := range m.method.Bindings {
		routes[i] = Route{Verb: binding.Verb, Template: binding.Template}
	}
	return routes
}

// Descriptor describes the method, its messages and its options.
func (m Method) Descriptor() protoreflect.MethodDescriptor { return m.method.Descriptor }
