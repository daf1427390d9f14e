package apidoc

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// operation is one HTTP route of a method: a binding of the contract, with its names in the
// document.
type operation struct {
	*contract.Binding
	// id is the operationId: the method's name, with "_2" and so on appended for
	// additional bindings.
	id    string
	route route
}

// operations returns the operations by the operationId that the plugin gives
// them: "Service_Method", with "_1" and so on appended for additional bindings.
func operations(methods []*contract.Method) (map[string]operation, error) {
	all := make(map[string]operation)
	ids := make(map[string]bool)
	for _, method := range methods {
		for n, binding := range method.Bindings {
			key := fmt.Sprintf("%s_%s", method.Descriptor.Parent().Name(), method.Descriptor.Name())
			op := operation{Binding: binding, id: string(method.Descriptor.Name())}
			if n > 0 {
				key = fmt.Sprintf("%s_%d", key, n)
				op.id = fmt.Sprintf("%s_%d", op.id, n+1)
			}
			var err error
			if op.route, err = routeOf(binding); err != nil {
				return nil, fmt.Errorf("%s: %w", method.Descriptor.FullName(), err)
			}
			if _, taken := all[key]; taken || ids[op.id] {
				return nil, fmt.Errorf("%s: operation %s is already taken", method.Descriptor.FullName(), op.id)
			}
			all[key], ids[op.id] = op, true
		}
	}
	return all, nil
}

func (op operation) tag() string { return tagName(string(op.Method.Descriptor.Parent().Name())) }

// domain is the part of Mesh that the service belongs to, such as "iam": the
// name in its package that follows "meshtrade".
func (op operation) domain() string {
	return strings.Split(string(op.Method.Descriptor.ParentFile().Package()), ".")[1]
}

func (op operation) request() protoreflect.MessageDescriptor { return op.Method.Descriptor.Input() }

// response is the name of the response message within its package.
func (op operation) response() string { return string(op.Method.Descriptor.Output().Name()) }

// workbook reports whether the response is also available as an Excel file.
func (op operation) workbook() bool {
	return op.Method.Descriptor.Output().Fields().ByName("excel_base64") != nil
}
