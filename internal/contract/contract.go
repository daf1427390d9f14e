// Package contract describes each method of the Mesh API: whether it reads or writes, who may call
// it, and its HTTP routes. Everything is read from the descriptors of the generated code. There is
// no other list of the methods.
package contract

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	meshproto "github.com/meshtrade/mesh-gateway/proto"
	rolev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/role/v1"
	methodoptionsv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/option/method_options/v1"
)

// Method is an RPC with its options from the contract.
type Method struct {
	Descriptor protoreflect.MethodDescriptor
	// Write reports whether the method changes state. The gateway retries only methods that do
	// not.
	Write bool
	// Public reports whether the method can be called without an API key and a group.
	Public bool
	// Roles are the roles of which the caller needs at least one. Public methods have none.
	Roles []rolev1.Role
	// Verified reports whether the caller's compliance client must be verified.
	Verified bool
	// Bindings are the HTTP routes of the method, the primary one first.
	Bindings []*Binding

	name string
}

// Name returns the full gRPC name of the method, "/package.Service/Method".
func (m *Method) Name() string { return m.name }

// Streams reports whether the method is server-streaming.
func (m *Method) Streams() bool { return m.Descriptor.IsStreamingServer() }

var methods = sync.OnceValues(func() ([]*Method, error) {
	var all []*Method
	for _, service := range meshproto.Services() {
		for i := range service.Descriptor.Methods().Len() {
			method, err := read(service.Descriptor.Methods().Get(i))
			if err != nil {
				return nil, fmt.Errorf("contract: %s: %w", service.Descriptor.Methods().Get(i).FullName(), err)
			}
			all = append(all, method)
		}
	}
	return all, nil
})

// Check returns the first mistake in the contract. The contract is compiled in, so a mistake is a
// defect of the build, and the other functions of this package panic. The code generator and the
// tests call Check.
func Check() error {
	_, err := methods()
	return err
}

// Methods returns all methods, ordered by the generated list of services and, within a service, by
// its .proto file. The caller must not modify the slice.
func Methods() []*Method {
	all, err := methods()
	if err != nil {
		panic(err)
	}
	return all
}

var byName = sync.OnceValue(func() map[string]*Method {
	named := make(map[string]*Method)
	for _, method := range Methods() {
		named[method.Name()] = method
	}
	return named
})

// ByName returns the method with the full gRPC name ([Method.Name]), or nil if there is none.
func ByName(name string) *Method { return byName()[name] }

// read returns an error if a method has no type, no access rule or no route: every method must
// have all three.
func read(descriptor protoreflect.MethodDescriptor) (*Method, error) {
	rules, ok := proto.GetExtension(descriptor.Options(), methodoptionsv1.E_MethodOptions).(*methodoptionsv1.MethodOptions)
	if !ok || rules == nil {
		return nil, errors.New("no method_options")
	}
	method := &Method{
		Descriptor: descriptor,
		Roles:      rules.GetRoles(),
		Verified:   rules.GetVerificationStatus() == methodoptionsv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED,
		name:       "/" + string(descriptor.Parent().FullName()) + "/" + string(descriptor.Name()),
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
		binding, err := bind(method, rule)
		if err != nil {
			return nil, err
		}
		method.Bindings = append(method.Bindings, binding)
	}
	return method, nil
}
