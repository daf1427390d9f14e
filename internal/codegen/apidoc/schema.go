package apidoc

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

const schemaRef = "#/components/schemas/"

// ref returns a reference to a schema of the document.
func ref(name string) object { return object{"$ref": schemaRef + name} }

// finishSchemas renames the schemas of the plugin from the full names of messages to short names,
// and adds the rules of the contract for their fields. The comments on enum values come from
// commented.
func (d *document) finishSchemas(commented *protoregistry.Files) error {
	schemas, _ := d.Components["schemas"].(object)
	if len(schemas) == 0 {
		return fmt.Errorf("no schemas")
	}
	finished, full := make(object), make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return fmt.Errorf("schema %s: %w", name, err)
		}
		schema, _ := schemas[name].(object)
		switch descriptor := descriptor.(type) {
		case protoreflect.MessageDescriptor:
			err = finishMessage(descriptor, schema)
		case protoreflect.EnumDescriptor:
			err = describeValues(descriptor, schema, commented)
		default:
			err = fmt.Errorf("is neither a message nor an enum")
		}
		if err != nil {
			return fmt.Errorf("schema %s: %w", name, err)
		}
		short := shortName(descriptor)
		if other, taken := full[short]; taken {
			return fmt.Errorf("%s and %s would both be called %s", other, name, short)
		}
		full[short], finished[short] = name, schema
	}
	d.Components["schemas"] = finished
	return nil
}

// shortName returns the name within the package: "AccountReportPeriod" for AccountReport.Period.
func shortName(descriptor protoreflect.Descriptor) string {
	name := strings.TrimPrefix(string(descriptor.FullName()), string(descriptor.ParentFile().Package())+".")
	return strings.ReplaceAll(name, ".", "")
}

// finishMessage adds the rules for the fields of a message to its schema. It ignores fields that
// are not in the schema because they are in the path.
func finishMessage(message protoreflect.MessageDescriptor, schema object) error {
	properties, _ := schema["properties"].(object)
	var required []string
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		property, ok := properties[field.JSONName()].(object)
		if !ok {
			continue
		}
		bare(property)
		must, err := constrain(field, property)
		if err != nil {
			return fmt.Errorf("%s: %w", field.Name(), err)
		}
		if must {
			required = append(required, field.JSONName())
		}
	}
	if len(required) > 0 {
		schema["required"] = required
	}
	rules, err := messageRules(message)
	if err != nil {
		return err
	}
	tellRules(schema, "It", rules)

	// The plugin writes a oneof as alternative schemas. Generated types and pages lose the
	// fields in these, so it is replaced by a rule that excludes any two of the fields.
	delete(schema, "oneOf")
	var both []object
	for i := range message.Oneofs().Len() {
		both = append(both, pairs(message.Oneofs().Get(i))...)
	}
	if len(both) > 0 {
		schema["not"] = object{"anyOf": both}
	}
	return nil
}

// bare replaces an allOf with one reference, which the plugin writes for older tools, by the
// reference itself. OpenAPI 3.1 allows other keywords next to a reference.
func bare(property object) {
	all, _ := property["allOf"].([]any)
	if len(all) != 1 {
		return
	}
	if only, _ := all[0].(object); only["$ref"] != nil {
		property["$ref"] = only["$ref"]
		delete(property, "allOf")
	}
}

// pairs returns a schema for every pair of fields of a oneof, since they exclude each other.
func pairs(oneof protoreflect.OneofDescriptor) []object {
	var pairs []object
	fields := oneof.Fields()
	for i := range fields.Len() {
		for j := i + 1; j < fields.Len(); j++ {
			a, b := fields.Get(i).JSONName(), fields.Get(j).JSONName()
			pairs = append(pairs, object{"required": []string{a, b}, "properties": object{a: object{}, b: object{}}})
		}
	}
	return pairs
}

// describeValues adds the comments on the values of an enum: to the description for people, and to
// x-enum-descriptions for client generators.
func describeValues(enum protoreflect.EnumDescriptor, schema object, commented *protoregistry.Files) error {
	values := enum.Values()
	var list strings.Builder
	var each []string
	for i := range values.Len() {
		value, err := commented.FindDescriptorByName(values.Get(i).FullName())
		if err != nil {
			return fmt.Errorf("%s: %w", values.Get(i).Name(), err)
		}
		comment := unwrap(value.ParentFile().SourceLocations().ByDescriptor(value).LeadingComments)
		each = append(each, comment)
		fmt.Fprintf(&list, "\n- `%s`: %s", values.Get(i).Name(), comment)
	}
	text, _ := schema["description"].(string)
	schema["description"] = unwrap(text) + "\n" + list.String()
	schema["x-enum-descriptions"] = each
	return nil
}

var paragraphs = regexp.MustCompile(`\n\s*\n`)

// unwrap joins the lines of each paragraph of a comment.
func unwrap(comment string) string {
	var text []string
	for _, paragraph := range paragraphs.Split(strings.TrimSpace(comment), -1) {
		text = append(text, strings.Join(strings.Fields(paragraph), " "))
	}
	return strings.Join(text, "\n\n")
}

// eachObject visits every object of the document, outer objects first.
func eachObject(value any, visit func(object)) {
	switch value := value.(type) {
	case object:
		visit(value)
		for _, member := range value {
			eachObject(member, visit)
		}
	case []any:
		for _, item := range value {
			eachObject(item, visit)
		}
	}
}
