package conformance_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/openapi"
)

// TestTheRulesAreThoseOfTheContract generates valid bodies, modifies some of them, and checks that the
// schema of the document accepts the same bodies as protovalidate with the rules of the contract.
func TestTheRulesAreThoseOfTheContract(t *testing.T) {
	schemas := compile(t).bodies
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, method := range contract.Methods() {
		binding := method.Bindings[0]
		name := string(method.Descriptor.Name())
		if binding.Body == "" {
			continue
		}
		schema, described := schemas[name]
		if !described {
			if binding.Body != "*" {
				t.Errorf("the body of %s is not described", name)
			}
			continue // only the path has fields
		}
		tried++
		t.Run(name, func(t *testing.T) {
			verdicts := make(map[bool]int)
			rapid.Check(t, func(t *rapid.T) {
				body := drawBody(t, method, binding)
				for range rapid.IntRange(0, 2).Draw(t, "modifications") {
					spoil(t, body, drawBody(t, method, binding))
				}
				content, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				contract := judge(validator, method, binding, content)
				document := schema.Validate(body)
				verdicts[contract == nil]++
				if (contract == nil) != (document == nil) {
					t.Fatalf("%s\nthe contract: %v\nthe document: %v", content, contract, document)
				}
			})
			if verdicts[true] == 0 || verdicts[false] == 0 && schema.Required != nil {
				t.Errorf("verdicts %v: want both valid and invalid bodies", verdicts)
			}
		})
	}
	if tried == 0 {
		t.Error("no body was checked")
	}
}

// TestRepliesAreAsDescribed generates replies that are valid in the contract.
func TestRepliesAreAsDescribed(t *testing.T) {
	schemas := compile(t).replies
	for _, method := range contract.Methods() {
		name := string(method.Descriptor.Name())
		schema := schemas[name]
		if schema == nil {
			t.Errorf("%s has no response schema", name)
			continue
		}
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			content, err := protojson.Marshal(meshtest.Valid(t, method.Descriptor.Output()))
			if err != nil {
				t.Fatal(err)
			}
			var reply any
			if err := json.Unmarshal(content, &reply); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(reply); err != nil {
				t.Fatalf("%s\n%v", content, err)
			}
		}))
	}
}

// described holds the schemas of the document by operation.
type described struct{ bodies, replies map[string]*jsonschema.Schema }

// sandboxDocument returns the document of the sandbox.
func sandboxDocument(t *testing.T) []byte {
	t.Helper()
	content, err := openapi.Write(openapi.JSON, openapi.Deployment{Sandbox: true})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func compile(t *testing.T) described {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(sandboxDocument(t), &root); err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("openapi.json", root); err != nil {
		t.Fatal(err)
	}
	type content map[string]struct {
		Schema struct {
			Ref string `json:"$ref"`
		}
	}
	var d struct {
		Paths map[string]map[string]struct {
			OperationID string
			RequestBody struct{ Content content }
			Responses   map[string]struct{ Content content }
		}
	}
	if err := json.Unmarshal(sandboxDocument(t), &d); err != nil {
		t.Fatal(err)
	}
	schemas := described{make(map[string]*jsonschema.Schema), make(map[string]*jsonschema.Schema)}
	add := func(to map[string]*jsonschema.Schema, id, ref string) {
		if ref == "" {
			return
		}
		schema, err := compiler.Compile("openapi.json" + ref)
		if err != nil {
			t.Fatal(err)
		}
		to[id] = schema
	}
	for _, item := range d.Paths {
		for _, op := range item {
			add(schemas.bodies, op.OperationID, op.RequestBody.Content["application/json"].Schema.Ref)
			for _, media := range []string{"application/json", "application/x-ndjson"} {
				add(schemas.replies, op.OperationID, op.Responses["200"].Content[media].Schema.Ref)
			}
		}
	}
	return schemas
}

// drawBody generates a valid body.
func drawBody(t *rapid.T, method *contract.Method, binding *contract.Binding) map[string]any {
	request := meshtest.Valid(t, method.Descriptor.Input())
	message := request.ProtoReflect()
	if binding.Body != "*" {
		message = message.Get(message.Descriptor().Fields().ByName(protoreflect.Name(binding.Body))).Message()
	}
	if path := binding.PathField; path != "" {
		_, field, nested := strings.Cut(path, ".")
		if !nested {
			field = path
		}
		message.Clear(message.Descriptor().Fields().ByName(protoreflect.Name(field)))
	}
	content, err := protojson.Marshal(message.Interface())
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(content, &body); err != nil {
		t.Fatal(err)
	}
	return body
}

// judge validates a body with the rules of the contract. The path is valid.
func judge(validator protovalidate.Validator, method *contract.Method, binding *contract.Binding, content []byte) error {
	request := dynamicpb.NewMessage(method.Descriptor.Input())
	var message protoreflect.Message = request
	if binding.Body != "*" {
		message = request.Mutable(request.Descriptor().Fields().ByName(protoreflect.Name(binding.Body))).Message()
	}
	if err := protojson.Unmarshal(content, message.Interface()); err != nil {
		return err
	}
	if path := binding.PathField; path != "" {
		var at protoreflect.Message = request
		name := path
		if outer, inner, nested := strings.Cut(path, "."); nested {
			at, name = request.Mutable(request.Descriptor().Fields().ByName(protoreflect.Name(outer))).Message(), inner
		}
		at.Set(at.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOfString(binding.PathValue(strings.Repeat("0", 26))))
	}
	return validator.Validate(proto.Message(request))
}

// spoil modifies a body in one place: it removes a member, adds members of another body, or replaces
// a value with one at or beyond a limit.
func spoil(t *rapid.T, body, other map[string]any) {
	object := body
	for {
		names := slices.Sorted(maps.Keys(object))
		if len(names) == 0 {
			return
		}
		name := rapid.SampledFrom(names).Draw(t, "member")
		if name == "nextVerificationDate" {
			return // JSON Schema cannot express that it must be in the future
		}
		if inner, ok := object[name].(map[string]any); ok && rapid.Bool().Draw(t, "deeper") {
			object = inner
			continue
		}
		switch rapid.SampledFrom([]string{"leave out", "add", "replace", "replace"}).Draw(t, "how") {
		case "leave out":
			delete(object, name)
		case "add":
			maps.Copy(body, other)
		case "replace":
			object[name] = edge(t, object[name])
		}
		return
	}
}

// edge returns a value of the same type, at or beyond a limit.
func edge(t *rapid.T, value any) any {
	switch value := value.(type) {
	case string:
		if strings.HasSuffix(value, "Z") && strings.Contains(value, "T") {
			return "tomorrow" // RFC 3339 allows formats that ProtoJSON does not
		}
		edges := []string{"", "x", "é", strings.ToLower(value), value + "0", "_" + value, value + "\n",
			"a@b", "a b@c.example", "a@c.example", "\"a b\"@c.example", "https://c.example/p?q#f", "urn:x:y", "//c.example", "a b", "ab", "ABC", "ABCDE", "12", "1234", "en-ZA"}
		if prefix, rest, ok := strings.Cut(value, "_"); ok && strings.ToUpper(rest) == rest {
			edges = append(edges, prefix+"_UNSPECIFIED", enumZero(value))
		}
		for _, length := range []int{20, 100, 200, 255, 500, 1000, 2000} {
			edges = append(edges, strings.Repeat("é", length), strings.Repeat("é", length+1))
		}
		return rapid.SampledFrom(edges).Draw(t, "text")
	case []any:
		length := rapid.SampledFrom([]int{0, 1, 10, 11, 100, 101}).Draw(t, "length")
		var list []any
		for i := range length {
			if len(value) > 0 {
				list = append(list, value[i%len(value)])
			}
		}
		if list == nil {
			list = []any{}
		}
		if len(list) > 0 && rapid.Bool().Draw(t, "an item") {
			list[0] = edge(t, list[0])
		}
		return list
	case map[string]any:
		return map[string]any{}
	case bool:
		return !value
	case float64:
		return rapid.SampledFrom([]float64{0, -1, 1 << 31, 1<<31 - 1}).Draw(t, "number")
	}
	return fmt.Sprint(value)
}

// enumZero returns the name of the zero value of an enum, if the names of its values differ only in
// the last word: LIMIT_ORDER_SIDE_BUY.
func enumZero(value string) string {
	return value[:strings.LastIndex(value, "_")] + "_UNSPECIFIED"
}
