package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
)

// sortedList is an operation whose results can be sorted, and the fields to sort by.
type sortedList struct {
	Operation string
	Fields    []string
}

// sorted returns the lists that can be sorted.
func (d description) sorted(o Options) []sortedList {
	var lists []sortedList
	for _, id := range o.operations(func(*contract.Method) bool { return true }) {
		for _, item := range d.Paths {
			for _, op := range item {
				if op.OperationID != id {
					continue
				}
				for _, parameter := range op.Parameters {
					if parameter.Name != "sorting.field" {
						continue
					}
					fields := slices.DeleteFunc(slices.Clone(parameter.Schema.Enum), func(field string) bool { return field == "" })
					lists = append(lists, sortedList{id, fields})
				}
			}
		}
	}
	return lists
}

// enumValue is a value of an enum of the contract, with the comment on it.
type enumValue struct{ Name, Meaning string }

// Enum returns the values of an enum, except the one that is not set.
func (d description) Enum(name string) ([]enumValue, error) {
	schema := d.Components.Schemas[name]
	if len(schema.Enum) < 2 || len(schema.Enum) != len(schema.Meanings) {
		return nil, fmt.Errorf("%s is not an enum of the document", name)
	}
	var values []enumValue
	for i, value := range schema.Enum[1:] {
		values = append(values, enumValue{value, schema.Meanings[i+1]})
	}
	return values, nil
}

// Asking returns the operations whose request has a field.
func (g guide) Asking(field protoreflect.Name) []string {
	return g.operations(func(m *contract.Method) bool { return m.Descriptor.Input().Fields().ByName(field) != nil })
}

// Answering returns the operations whose response has a field.
func (g guide) Answering(field protoreflect.Name) []string {
	return g.operations(func(m *contract.Method) bool { return m.Descriptor.Output().Fields().ByName(field) != nil })
}

// Public returns the operations that need no key.
func (g guide) Public() []string {
	return g.operations(func(m *contract.Method) bool { return m.Public })
}

// Verified returns the operations that need a verified client.
func (g guide) Verified() []string {
	return g.operations(func(m *contract.Method) bool { return m.Verified })
}

// OutcomeUnknown returns the error for a new order whose outcome is unknown.
func (guide) OutcomeUnknown() (string, error) {
	create := contract.ByName(limitorderv1.LimitOrderService_CreateLimitOrder_FullMethodName)
	rpc, path := create.Lookup(new(limitorderv1.CreateLimitOrderRequest))
	unknown := apierror.Unknown(codes.Unavailable, "The request was sent to the Mesh API, which became unavailable.", rpc, path)
	var text bytes.Buffer
	if err := json.Indent(&text, bytes.TrimSpace(apierror.Marshal(unknown.GRPCStatus().Proto(), "")), "", "  "); err != nil {
		return "", err
	}
	return text.String(), nil
}

// status returns the HTTP status and the name of a gRPC code.
func status(name string) (string, error) {
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %s", apierror.HTTPStatus(code), name), nil
}
