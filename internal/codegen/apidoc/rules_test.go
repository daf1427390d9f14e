package apidoc

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// compileFields compiles a message with these fields.
func compileFields(t *testing.T, fields string) protoreflect.MessageDescriptor {
	t.Helper()
	source := `syntax = "proto3"; package test; import "buf/validate/validate.proto"; import "google/protobuf/timestamp.proto";
		enum Side { SIDE_UNSPECIFIED = 0; SIDE_BUY = 1; SIDE_SELL = 2; }
		message Flags { bool by_mail = 1; bool by_phone = 2; }
		message Test { google.protobuf.Timestamp unused = 100; ` + fields + ` }`
	compiler := protocompile.Compiler{Resolver: protocompile.CompositeResolver{
		&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"test.proto": source})},
		protocompile.ResolverFunc(func(name string) (protocompile.SearchResult, error) {
			file, err := protoregistry.GlobalFiles.FindFileByPath(name)
			return protocompile.SearchResult{Desc: file}, err
		}),
	}}
	files, err := compiler.Compile(context.Background(), "test.proto")
	if err != nil {
		t.Fatal(err)
	}
	// Marshal and unmarshal it, so that extensions have the linked Go types, as in the generator.
	wire, err := proto.Marshal(protodesc.ToFileDescriptorProto(files[0]))
	if err != nil {
		t.Fatal(err)
	}
	plain := new(descriptorpb.FileDescriptorProto)
	if err := proto.Unmarshal(wire, plain); err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(plain, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().ByName("Test")
}

// TestConstrain checks the JSON Schema for each kind of rule.
func TestConstrain(t *testing.T) {
	const v = "(buf.validate.field)."
	for _, test := range []struct {
		name, field string
		required    bool
		schema      string
	}{
		{"none", `string f = 1;`, false, `{}`},
		{"required text", `string f = 1 [` + v + `required = true];`, true, `{"minLength": 1}`},
		{"lengths", `string f = 1 [` + v + `string = {min_len: 2, max_len: 5}];`, true, `{"minLength": 2, "maxLength": 5}`},
		{"a maximum length", `string f = 1 [` + v + `string.max_len = 5];`, false, `{"maxLength": 5}`},
		{"a pattern", `string f = 1 [` + v + `string.pattern = "^a+$"];`, true, `{"pattern": "^a+$"}`},
		{"a pattern that matches the empty string", `string f = 1 [` + v + `string.pattern = "^a*$"];`, false, `{"pattern": "^a*$"}`},
		{"a length that the pattern implies", `string f = 1 [` + v + `string = {len: 9, pattern: "^groups/[AB]{2}$"}];`, true, `{"pattern": "^groups/[AB]{2}$"}`},
		{"an optional field with a pattern", `string f = 1 [` + v + `ignore = IGNORE_IF_ZERO_VALUE, ` + v + `string.pattern = "^a+$"];`, false, `{"pattern": "^(?:a+)?$"}`},
		{"one of", `string f = 1 [` + v + `string = {in: ["", "name"]}];`, false, `{"enum": ["", "name"]}`},
		{"an enum", `Side f = 1 [` + v + `enum.defined_only = true];`, false, `{}`},
		{"an enum except its zero value", `Side f = 1 [` + v + `enum = {not_in: [0]}];`, true, `{"not": {"const": "SIDE_UNSPECIFIED"}}`},
		{"a required enum", `Side f = 1 [` + v + `required = true];`, true, `{"not": {"const": "SIDE_UNSPECIFIED"}}`},
		{"items", `repeated string f = 1 [` + v + `repeated = {min_items: 1, max_items: 3, items: {string: {max_len: 4}}}];`, true, `{"minItems": 1, "maxItems": 3, "items": {"maxLength": 4}}`},
		{"a required list", `repeated string f = 1 [` + v + `required = true];`, true, `{"minItems": 1}`},
		{"a required message", `Flags f = 1 [` + v + `required = true];`, true, `{}`},
		{"in the future", `google.protobuf.Timestamp f = 1 [` + v + `timestamp.gt_now = true];`, false, `{"x-mesh-rules": [{"expression": "this > now", "message": "must be in the future"}], "description": "It must be in the future."}`},

		{"CEL: empty or a pattern", celRule(`string`, `size(this) == 0 || this.matches('^a+$')`), false, `{"pattern": "^(?:a+)?$"}`},
		{"CEL: one pattern or another", celRule(`string`, `this.matches('^a$') || this.matches('^b$')`), true, `{"pattern": "^(?:a|b)$"}`},
		{"CEL: lengths", celRule(`string`, `size(this) > 0 && size(this) <= 7`), true, `{"minLength": 1, "maxLength": 7}`},
		{"CEL: an exact length", celRule(`string`, `size(this) == 7`), true, `{"minLength": 7, "maxLength": 7}`},
		{"CEL: one of", celRule(`string`, `this in ['', 'email']`), false, `{"enum": ["", "email"]}`},
		{"CEL: empty or a URI", celRule(`string`, `size(this) == 0 || this.isUri()`), false, `{"anyOf": [{"maxLength": 0}, {"format": "uri"}]}`},
		{"CEL: numbers of an enum", celRule(`Side`, `int(this) != 2`), false, `{"not": {"const": "SIDE_SELL"}}`},
		{"CEL: a flag", celRule(`Flags`, `this.by_mail || this.by_phone`), false,
			`{"anyOf": [{"required": ["byMail"], "properties": {"byMail": {"const": true}}}, {"required": ["byPhone"], "properties": {"byPhone": {"const": true}}}]}`},
		{"CEL: not expressible in JSON Schema", celRule(`string`, `this.startsWith('a')`), false, `{"x-mesh-rules": [{"expression": "this.startsWith('a')", "message": "must be so"}], "description": "It must be so."}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			field := compileFields(t, test.field).Fields().ByName("f")
			schema := object{}
			if field.IsList() {
				schema["items"] = object{}
			}
			required, err := constrain(field, schema)
			if err != nil {
				t.Fatal(err)
			}
			if items, ok := schema["items"].(object); ok && len(items) == 0 {
				delete(schema, "items")
			}
			content, err := json.Marshal(schema)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := json.Unmarshal(content, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(test.schema), &want); err != nil {
				t.Fatal(err)
			}
			if required != test.required || !reflect.DeepEqual(got, want) {
				t.Errorf("required %v, %s; want %v, %s", required, content, test.required, test.schema)
			}
		})
	}
}

func celRule(kind, expression string) string {
	return kind + ` f = 1 [(buf.validate.field).cel = {id: "f", message: "must be so", expression: "` + expression + `"}];`
}

// TestUnknownRules checks that unknown rules stop the generator, because without them the document
// would be wrong.
func TestUnknownRules(t *testing.T) {
	for name, field := range map[string]string{
		"of strings":    `string f = 1 [(buf.validate.field).string.prefix = "a"];`,
		"of numbers":    `int32 f = 1 [(buf.validate.field).int32.gt = 1];`,
		"of times":      `google.protobuf.Timestamp f = 1 [(buf.validate.field).timestamp.lt_now = true];`,
		"of enums":      `Side f = 1 [(buf.validate.field).enum.const = 1];`,
		"of items":      `repeated string f = 1 [(buf.validate.field).repeated.items.string.suffix = "a"];`,
		"of bad syntax": celRule(`string`, `size(this`),
	} {
		t.Run(name, func(t *testing.T) {
			schema := object{"items": object{}}
			if _, err := constrain(compileFields(t, field).Fields().ByName("f"), schema); err == nil {
				t.Errorf("no error; schema = %v", schema)
			}
		})
	}
}

func TestOneofsExcludeEachOther(t *testing.T) {
	message := compileFields(t, `oneof who { string person = 1; string company = 2; string fund = 3; }`)
	schema := object{"properties": object{"person": object{}, "company": object{}, "fund": object{}}}
	if err := finishMessage(message, schema); err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(schema["not"])
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range []string{`["person","company"]`, `["person","fund"]`, `["company","fund"]`} {
		if !strings.Contains(string(content), pair) {
			t.Errorf("%s lacks %s", content, pair)
		}
	}
}

func TestDescribe(t *testing.T) {
	for _, test := range []struct{ comment, summary, description string }{
		{"Gets a group.", "Gets a group", ""},
		{"Gets a group. It may be yours.", "Gets a group", "It may be yours."},
		{"Gets a group.\n\nIt may be yours.", "Gets a group", "It may be yours."},
		{"Gets a group by v1.2 rules.", "Gets a group by v1.2 rules", ""},
	} {
		content := object{"summary": test.comment}
		operation{Binding: &contract.Binding{Method: &contract.Method{Public: true}}}.describe(content)
		want := strings.TrimSpace(test.description + "\n\nPublic: neither a key nor a group is needed.")
		if content["summary"] != test.summary || content["description"] != want {
			t.Errorf("%q: %q, %q", test.comment, content["summary"], content["description"])
		}
	}
}
