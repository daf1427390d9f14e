package apidoc

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// methodOptions is the extension that holds a method's access rule. It is read
// by name: a generator that imported the code it generates could not run while
// that code is missing or broken.
const methodOptions = "meshtrade.option.method_options.v1.method_options"

// operation is one HTTP route of a method, and what the contract says of it.
type operation struct {
	id       string // the document's operationId
	tag      string
	domain   string // the part of Mesh that the service belongs to: "iam"
	verb     string // in lower case
	route    route
	body     string // the request field that the body fills, "*" for all, "" for none
	streams  bool
	kind     string // READ or WRITE
	public   bool
	verified bool // the client behind the executing group must be
	roles    []string
	request  protoreflect.MessageDescriptor
	response string // the name of the message that answers
	workbook bool   // the answer can be had as a file
}

// readFiles returns the descriptors of the request.
func readFiles(request *pluginpb.CodeGeneratorRequest) (*protoregistry.Files, error) {
	// Through the wire form, which leaves every extension in the type that is
	// linked for it, whatever the compiler used.
	wire, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: request.GetProtoFile()})
	if err != nil {
		return nil, err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(wire, set); err != nil {
		return nil, err
	}
	return protodesc.NewFiles(set)
}

// readOperations returns the operations by the operationId that the plugin
// gives them, "Service_Method" with "_1" and so on behind further routes.
func readOperations(request *pluginpb.CodeGeneratorRequest, files *protoregistry.Files) (map[string]operation, error) {
	operations := make(map[string]operation)
	ids := make(map[string]bool)
	for _, name := range request.GetFileToGenerate() {
		file, err := files.FindFileByPath(name)
		if err != nil {
			return nil, err
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				routes, err := readMethod(files, method)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", method.FullName(), err)
				}
				for n, op := range routes {
					key := fmt.Sprintf("%s_%s", service.Name(), method.Name())
					if n > 0 {
						key = fmt.Sprintf("%s_%d", key, n)
					}
					if _, taken := operations[key]; taken || ids[op.id] {
						return nil, fmt.Errorf("%s: operation %s is already taken", method.FullName(), op.id)
					}
					operations[key], ids[op.id] = op, true
				}
			}
		}
	}
	return operations, nil
}

// readMethod returns the method's operations, that of its principal route
// first.
func readMethod(files *protoregistry.Files, method protoreflect.MethodDescriptor) ([]operation, error) {
	rules, err := readMethodOptions(files, method)
	if err != nil {
		return nil, err
	}
	op := operation{
		tag:      tagName(string(method.Parent().Name())),
		streams:  method.IsStreamingServer(),
		domain:   strings.Split(string(method.ParentFile().Package()), ".")[1],
		request:  method.Input(),
		response: string(method.Output().Name()),
		workbook: method.Output().Fields().ByName("excel_base64") != nil,
	}
	switch kind := enumField(rules, "type"); kind {
	case "METHOD_TYPE_READ", "METHOD_TYPE_WRITE":
		op.kind = strings.TrimPrefix(kind, "METHOD_TYPE_")
	default:
		return nil, fmt.Errorf("type is %s", kind)
	}
	switch level := enumField(rules, "access_level"); level {
	case "METHOD_ACCESS_LEVEL_PUBLIC":
		op.public = true
	case "METHOD_ACCESS_LEVEL_AUTHORISED":
	default:
		return nil, fmt.Errorf("access_level is %s", level)
	}
	op.verified = enumField(rules, "verification_status") == "VERIFICATION_STATUS_VERIFIED"
	roles := rules.Descriptor().Fields().ByName("roles")
	list := rules.Get(roles).List()
	for i := range list.Len() {
		op.roles = append(op.roles, enumName(roles, list.Get(i).Enum()))
	}

	rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil, errors.New("no google.api.http binding")
	}
	var operations []operation
	for n, rule := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		op.id = string(method.Name())
		if n > 0 {
			op.id = fmt.Sprintf("%s_%d", op.id, n+1)
		}
		var template string
		op.verb, template = verbAndTemplate(rule)
		op.body = rule.GetBody()
		if op.route, err = readRoute(template); err != nil {
			return nil, err
		}
		operations = append(operations, op)
	}
	return operations, nil
}

func readMethodOptions(files *protoregistry.Files, method protoreflect.MethodDescriptor) (protoreflect.Message, error) {
	types := dynamicpb.NewTypes(files)
	extension, err := types.FindExtensionByName(methodOptions)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", methodOptions, err)
	}
	wire, err := proto.Marshal(method.Options())
	if err != nil {
		return nil, err
	}
	options := new(descriptorpb.MethodOptions)
	if err := (proto.UnmarshalOptions{Resolver: types}).Unmarshal(wire, options); err != nil {
		return nil, err
	}
	if !options.ProtoReflect().Has(extension.TypeDescriptor()) {
		return nil, errors.New("no method_options")
	}
	return options.ProtoReflect().Get(extension.TypeDescriptor()).Message(), nil
}

func enumField(message protoreflect.Message, name protoreflect.Name) string {
	field := message.Descriptor().Fields().ByName(name)
	return enumName(field, message.Get(field).Enum())
}

func enumName(field protoreflect.FieldDescriptor, number protoreflect.EnumNumber) string {
	if value := field.Enum().Values().ByNumber(number); value != nil {
		return string(value.Name())
	}
	return fmt.Sprint(number)
}

func verbAndTemplate(rule *annotations.HttpRule) (verb, template string) {
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return "get", pattern.Get
	case *annotations.HttpRule_Put:
		return "put", pattern.Put
	case *annotations.HttpRule_Post:
		return "post", pattern.Post
	case *annotations.HttpRule_Delete:
		return "delete", pattern.Delete
	case *annotations.HttpRule_Patch:
		return "patch", pattern.Patch
	}
	return "", ""
}
