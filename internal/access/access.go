// Package access tells what the contract says about each method: whether it
// reads or writes, who may call it, and under which HTTP routes. Everything is
// read from the descriptors; there is no other list of the methods.
package access

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rolev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/role/v1"
	methodoptionsv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/option/method_options/v1"
)

// Method is one RPC and what the contract says about it.
type Method struct {
	Descriptor protoreflect.MethodDescriptor
	// Write is set on methods that change state. Only the others may be
	// repeated without the caller's word.
	Write bool
	// Public methods need neither a key nor a group.
	Public bool
	// Roles of which the caller needs at least one; empty on public methods.
	Roles []rolev1.Role
	// Verified is set where the compliance client that owns the executing group
	// must be verified.
	Verified bool
	// Bindings are the method's HTTP routes, the principal one first.
	Bindings []Binding
}

// Name is the path of the method on the gRPC wire, "/package.Service/Method".
func (m *Method) Name() string {
	return "/" + string(m.Descriptor.Parent().FullName()) + "/" + string(m.Descriptor.Name())
}

// Streams reports whether the method answers with a stream.
func (m *Method) Streams() bool { return m.Descriptor.IsStreamingServer() }

// Methods reads every method of the services. It fails where the contract
// leaves something open: a method without access rule or route is a mistake.
func Methods(services []protoreflect.ServiceDescriptor) ([]*Method, error) {
	var methods []*Method
	for _, service := range services {
		for i := range service.Methods().Len() {
			method, err := read(service.Methods().Get(i))
			if err != nil {
				return nil, fmt.Errorf("contract: %s: %w", service.Methods().Get(i).FullName(), err)
			}
			methods = append(methods, method)
		}
	}
	return methods, nil
}

func read(descriptor protoreflect.MethodDescriptor) (*Method, error) {
	rules, ok := proto.GetExtension(descriptor.Options(), methodoptionsv1.E_MethodOptions).(*methodoptionsv1.MethodOptions)
	if !ok || rules == nil {
		return nil, errors.New("no method_options")
	}
	method := &Method{
		Descriptor: descriptor,
		Roles:      rules.GetRoles(),
		Verified:   rules.GetVerificationStatus() == methodoptionsv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED,
	}

	switch rules.GetType() {
	case methodoptionsv1.MethodType_METHOD_TYPE_READ:
	case methodoptionsv1.MethodType_METHOD_TYPE_WRITE:
		method.Write = true
	default:
		return nil, fmt.Errorf("type is %s", rules.GetType())
	}

	switch rules.GetAccessLevel() {
	case methodoptionsv1.MethodAccessLevel_METHOD_ACCESS_LEVEL_PUBLIC:
		method.Public = true
	case methodoptionsv1.MethodAccessLevel_METHOD_ACCESS_LEVEL_AUTHORISED:
		if len(method.Roles) == 0 {
			return nil, errors.New("authorised for no role")
		}
	default:
		return nil, fmt.Errorf("access_level is %s", rules.GetAccessLevel())
	}

	rule, ok := proto.GetExtension(descriptor.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil, errors.New("no google.api.http binding")
	}
	for _, rule := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		binding, err := bind(rule)
		if err != nil {
			return nil, err
		}
		method.Bindings = append(method.Bindings, binding)
	}
	return method, nil
}

// Binding is one HTTP route of a method, as google.api.http declares it.
type Binding struct {
	// Verb is the HTTP method.
	Verb string
	// Template is the path as the contract writes it, such as
	// "/v1/{name=groups/*}".
	Template string
	// Body names the request field that the body fills: a field of the request,
	// "*" for the whole request, or "" where there is no body.
	Body string
	// PathFields are the request fields that the path fills, in proto spelling
	// with dots between the names of nested ones.
	PathFields []string

	pattern, variable string
}

func bind(rule *annotations.HttpRule) (Binding, error) {
	b := Binding{Body: rule.GetBody()}
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		b.Verb, b.Template = "GET", pattern.Get
	case *annotations.HttpRule_Put:
		b.Verb, b.Template = "PUT", pattern.Put
	case *annotations.HttpRule_Post:
		b.Verb, b.Template = "POST", pattern.Post
	case *annotations.HttpRule_Delete:
		b.Verb, b.Template = "DELETE", pattern.Delete
	case *annotations.HttpRule_Patch:
		b.Verb, b.Template = "PATCH", pattern.Patch
	default:
		return b, errors.New("google.api.http binding without a path")
	}

	var pattern strings.Builder
	rest := b.Template
	for {
		before, after, found := strings.Cut(rest, "{")
		pattern.WriteString(before)
		if !found {
			break
		}
		variable, tail, closed := strings.Cut(after, "}")
		if !closed {
			return b, fmt.Errorf("template %s: no closing brace", b.Template)
		}
		field, segments, templated := strings.Cut(variable, "=")
		if !templated {
			segments = "*"
		}
		if strings.Count(segments, "*") != 1 || strings.Contains(pattern.String(), "*") {
			return b, fmt.Errorf("template %s: only one variable of one * is understood", b.Template)
		}
		pattern.WriteString(segments)
		b.variable = segments
		b.PathFields = append(b.PathFields, field)
		rest = tail
	}
	b.pattern = pattern.String()
	return b, nil
}

// Pattern is the route with its variable segment named by parameter, such as
// "/v1/groups/{id}:close" for the parameter "{id}".
func (b Binding) Pattern(parameter string) string {
	return strings.Replace(b.pattern, "*", parameter, 1)
}

// PathValue is the value that the path gives its field when its variable
// segment is segment: "groups/X" for "X" under "/v1/{name=groups/*}".
func (b Binding) PathValue(segment string) string {
	return strings.Replace(b.variable, "*", segment, 1)
}
