package openapi_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/openapi"
	"github.com/meshtrade/mesh-gateway/proto"
)

type operation struct {
	OperationID string                `json:"operationId"`
	Tags        []string              `json:"tags"`
	Security    []map[string][]string `json:"security"`
	Type        string                `json:"x-mesh-type"`
	Roles       []string              `json:"x-mesh-roles"`
	Parameters  []struct {
		Name, In string
		Required bool
	} `json:"parameters"`
	Responses map[string]struct {
		Ref     string         `json:"$ref"`
		Content map[string]any `json:"content"`
	} `json:"responses"`
}

type document struct {
	OpenAPI string `json:"openapi"`
	Info    struct{ Title, Version string }
	Servers []struct{ URL string }
	Tags    []struct{ Name string }
	Paths   map[string]map[string]operation
}

func read(t *testing.T) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(openapi.JSON(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func methods(t *testing.T) []*access.Method {
	t.Helper()
	methods, err := access.Methods(proto.Services())
	if err != nil {
		t.Fatal(err)
	}
	return methods
}

func TestHead(t *testing.T) {
	d := read(t)
	if d.OpenAPI != "3.1.0" || d.Info.Title != "Mesh API over REST" || d.Info.Version != "1.69.0" {
		t.Errorf("head = %s, %+v", d.OpenAPI, d.Info)
	}
	if len(d.Servers) != 1 || d.Servers[0].URL != "/" {
		t.Errorf("servers = %+v", d.Servers)
	}
	if strings.Contains(string(openapi.JSON()), "{name=") {
		t.Error("a google.api.http template is left over")
	}
}

// TestOperations holds the document against the contract, route by route.
func TestOperations(t *testing.T) {
	d := read(t)
	tags := make(map[string]bool)
	for _, tag := range d.Tags {
		tags[tag.Name] = true
	}
	ids := make(map[string]bool)
	for path, item := range d.Paths {
		for verb, op := range item {
			if ids[op.OperationID] {
				t.Errorf("%s %s: operationId %s is not unique", verb, path, op.OperationID)
			}
			ids[op.OperationID] = true
			if len(op.Tags) != 1 || !tags[op.Tags[0]] {
				t.Errorf("%s: tags = %q", op.OperationID, op.Tags)
			}
		}
	}
	// Beside the contract: tickets for streams, and the two controls of the
	// sandbox, each under a tag.
	const besides, besideTags = 3, 2
	if want := len(proto.Services()) + besideTags; len(tags) != want {
		t.Errorf("%d tags, want %d", len(tags), want)
	}

	count := 0
	for _, method := range methods(t) {
		for _, binding := range method.Bindings {
			count++
			path, op := find(t, d, binding)
			check(t, method, path, op)
		}
	}
	if count+besides != len(ids) {
		t.Errorf("%d operations for %d routes and %d besides", len(ids), count, besides)
	}
}

// find returns the operation of a route, whatever its parameter is called.
func find(t *testing.T, d document, binding access.Binding) (string, operation) {
	t.Helper()
	for path, item := range d.Paths {
		parameter := ""
		if i := strings.Index(path, "{"); i >= 0 {
			parameter = path[i : strings.Index(path, "}")+1]
		}
		if op, ok := item[strings.ToLower(binding.Verb)]; ok && binding.Pattern(parameter) == path {
			return path, op
		}
	}
	t.Fatalf("%s %s is not described", binding.Verb, binding.Template)
	return "", operation{}
}

func check(t *testing.T, method *access.Method, path string, op operation) {
	t.Helper()
	if !strings.HasPrefix(op.OperationID, string(method.Descriptor.Name())) {
		t.Errorf("%s is described as %s", method.Name(), op.OperationID)
	}

	security := []map[string][]string{{"apiKey": {}, "group": {}}, {"bearer": {}, "group": {}}}
	if method.Streams() {
		security = append(security, map[string][]string{"ticket": {}})
	}
	if method.Public {
		security = []map[string][]string{}
	}
	if !reflect.DeepEqual(op.Security, security) {
		t.Errorf("%s: security = %v, want %v", op.OperationID, op.Security, security)
	}
	if want := map[bool]string{false: "READ", true: "WRITE"}[method.Write]; op.Type != want {
		t.Errorf("%s: x-mesh-type = %s, want %s", op.OperationID, op.Type, want)
	}
	roles := []string{}
	for _, role := range method.Roles {
		roles = append(roles, role.String())
	}
	if !reflect.DeepEqual(op.Roles, roles) {
		t.Errorf("%s: x-mesh-roles = %v, want %v", op.OperationID, op.Roles, roles)
	}

	var inPath []string
	for _, parameter := range op.Parameters {
		if parameter.In == "path" && parameter.Required {
			inPath = append(inPath, "{"+parameter.Name+"}")
		}
	}
	if len(inPath) != strings.Count(path, "{") || len(inPath) == 1 && !strings.Contains(path, inPath[0]) {
		t.Errorf("%s: path %s has parameters %q", op.OperationID, path, inPath)
	}

	media := []string{"application/json"}
	if method.Streams() {
		media = []string{"application/x-ndjson", "text/event-stream"}
	}
	if method.Descriptor.Output().Fields().ByName("excel_base64") != nil {
		media = append(media, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
	}
	if got := slices.Sorted(maps.Keys(op.Responses["200"].Content)); !slices.Equal(got, media) {
		t.Errorf("%s: answers with %v, want %v", op.OperationID, got, media)
	}
	if op.Responses["default"].Ref != "#/components/responses/Error" {
		t.Errorf("%s: no error response", op.OperationID)
	}
}

func TestReferencesResolve(t *testing.T) {
	var root any
	if err := json.Unmarshal(openapi.JSON(), &root); err != nil {
		t.Fatal(err)
	}
	count := 0
	var walk func(any)
	walk = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			if ref, ok := value["$ref"].(string); ok {
				count++
				if !resolves(root, ref) {
					t.Errorf("%s does not resolve", ref)
				}
			}
			for _, member := range value {
				walk(member)
			}
		case []any:
			for _, item := range value {
				walk(item)
			}
		}
	}
	walk(root)
	if count == 0 {
		t.Error("no reference found")
	}
}

func resolves(value any, ref string) bool {
	path, local := strings.CutPrefix(ref, "#/")
	if !local {
		return false
	}
	for name := range strings.SplitSeq(path, "/") {
		members, _ := value.(map[string]any)
		var ok bool
		if value, ok = members[name]; !ok {
			return false
		}
	}
	return true
}

func TestJSONIsTheCallersOwn(t *testing.T) {
	openapi.JSON()[0] = 'x'
	if openapi.JSON()[0] != '{' {
		t.Error("a caller changed the document for all")
	}
}
