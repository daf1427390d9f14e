package openapi_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/contract"
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
	if err := json.Unmarshal(sandbox(t), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func methods(t *testing.T) []*contract.Method {
	t.Helper()
	methods := contract.Methods()
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
	if strings.Contains(string(sandbox(t)), "{name=") {
		t.Error("a google.api.http template is left over")
	}
}

// TestOperations compares the document with the contract, route by route.
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
	// Operations that are not in the contract: stream tickets, and the two controls of the
	// sandbox, under a tag each.
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
		t.Errorf("%d operations, want %d routes and %d others", len(ids), count, besides)
	}
}

// find returns the operation of a route, whatever the name of its parameter.
func find(t *testing.T, d document, binding *contract.Binding) (string, operation) {
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

func check(t *testing.T, method *contract.Method, path string, op operation) {
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
		t.Errorf("%s: media types = %v, want %v", op.OperationID, got, media)
	}
	if op.Responses["default"].Ref != "#/components/responses/Error" {
		t.Errorf("%s: no error response", op.OperationID)
	}
}

func TestReferencesResolve(t *testing.T) {
	for _, format := range []openapi.Format{openapi.JSON, openapi.Swagger2} {
		for _, deployment := range []openapi.Deployment{{}, {Sandbox: true}} {
			var root any
			if err := json.Unmarshal(write(t, format, deployment), &root); err != nil {
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
							t.Errorf("%s: %s does not resolve", format, ref)
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
				t.Errorf("%s: no reference found", format)
			}
		}
	}
}

// TestSwagger2HasEveryOperation compares it with the OpenAPI document that it is made from.
func TestSwagger2HasEveryOperation(t *testing.T) {
	type operation struct {
		OperationID string
		Parameters  []map[string]any
		Produces    []string
		Responses   map[string]struct{ Schema map[string]any }
	}
	var swagger struct {
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal(write(t, openapi.Swagger2, openapi.Deployment{Sandbox: true}), &swagger); err != nil {
		t.Fatal(err)
	}
	for path, item := range read(t).Paths {
		for verb, want := range item {
			got := swagger.Paths[path][verb]
			if got.OperationID != want.OperationID {
				t.Errorf("%s %s is %q, want %s", verb, path, got.OperationID, want.OperationID)
			}
			for status, response := range want.Responses {
				if _, ok := got.Responses[status]; !ok {
					t.Errorf("%s lacks %s", want.OperationID, status)
				}
				if media := slices.Sorted(maps.Keys(response.Content)); status == "200" && !slices.Equal(media, got.Produces) {
					t.Errorf("%s produces %q, want %q", want.OperationID, got.Produces, media)
				}
			}
			if want.Responses["200"].Content != nil && got.Responses["200"].Schema == nil {
				t.Errorf("%s: the response has no schema", want.OperationID)
			}
			for _, parameter := range got.Parameters {
				if parameter["$ref"] == nil && parameter["in"] != "body" && parameter["type"] == nil {
					t.Errorf("%s: parameter %v has no type", want.OperationID, parameter["name"])
				}
				if parameter["type"] == "array" && parameter["collectionFormat"] != "multi" {
					t.Errorf("%s: parameter %v has collectionFormat %v, want multi", want.OperationID, parameter["name"], parameter["collectionFormat"])
				}
			}
		}
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

// sandbox returns the whole document, as the generator wrote it.
func sandbox(t *testing.T) []byte {
	t.Helper()
	return write(t, openapi.JSON, openapi.Deployment{Sandbox: true})
}

func write(t *testing.T, format openapi.Format, deployment openapi.Deployment) []byte {
	t.Helper()
	content, err := openapi.Write(format, deployment)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestYAMLEqualsJSON compares the decoded documents.
func TestYAMLEqualsJSON(t *testing.T) {
	var fromJSON, fromYAML any
	if err := json.Unmarshal(sandbox(t), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(write(t, openapi.YAML, openapi.Deployment{Sandbox: true}), &fromYAML); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(fromYAML)
	if err != nil {
		t.Fatal(err)
	}
	var viaYAML any
	if err := json.Unmarshal(again, &viaYAML); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, viaYAML); diff != "" {
		t.Error(diff)
	}
}

func TestDeployment(t *testing.T) {
	live := openapi.Deployment{PublicURL: "https://api.example.com/mesh/"}
	for _, test := range []struct {
		name       string
		format     openapi.Format
		deployment openapi.Deployment
		want       []string
		without    []string
	}{
		{"the sandbox", openapi.JSON, openapi.Deployment{Sandbox: true},
			[]string{`"url": "/"`, "A sandbox with play money.", `"/sandbox:reset"`, `"X-Sandbox-Fault"`, `#/components/parameters/SandboxFault`}, nil},
		{"the live API", openapi.JSON, live,
			[]string{`"url": "https://api.example.com/mesh"`, `"/v1/limit_orders"`}, []string{"/sandbox:", "SandboxFault", "A sandbox with play money", `\u00`}},
		{"the live API in YAML", openapi.YAML, live,
			[]string{"url: https://api.example.com/mesh", "/v1/limit_orders:\n"}, []string{"/sandbox:", "SandboxFault"}},
		{"the live API in Swagger 2.0", openapi.Swagger2, live,
			[]string{`"swagger": "2.0"`, `"host": "api.example.com"`, `"basePath": "/mesh"`, `"https"`}, []string{"/sandbox:", "SandboxFault"}},
		{"no public URL in Swagger 2.0", openapi.Swagger2, openapi.Deployment{}, []string{`"basePath": "/"`}, []string{`"host"`, `"schemes"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			content := string(write(t, test.format, test.deployment))
			for _, want := range test.want {
				if !strings.Contains(content, want) {
					t.Errorf("%s is missing", want)
				}
			}
			for _, without := range test.without {
				if strings.Contains(content, without) {
					t.Errorf("it contains %s", without)
				}
			}
		})
	}
}

// TestPublicURLChangesNothingElse compares documents with and without a public URL.
func TestPublicURLChangesNothingElse(t *testing.T) {
	address := map[openapi.Format][]string{openapi.JSON: {"servers"}, openapi.Swagger2: {"basePath", "host", "schemes"}}
	for format, members := range address {
		for name, sandbox := range map[string]bool{"live": false, "sandbox": true} {
			t.Run(name+" "+string(format), func(t *testing.T) {
				read := func(publicURL string) map[string]any {
					var root map[string]any
					if err := json.Unmarshal(write(t, format, openapi.Deployment{PublicURL: publicURL, Sandbox: sandbox}), &root); err != nil {
						t.Fatal(err)
					}
					for _, member := range members {
						delete(root, member)
					}
					return root
				}
				if diff := cmp.Diff(read(""), read("https://api.example.com")); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// TestServingEverythingChangesNothing compares documents with and without a rule that all operations
// are served.
func TestServingEverythingChangesNothing(t *testing.T) {
	for _, format := range []openapi.Format{openapi.JSON, openapi.YAML, openapi.Swagger2} {
		for name, sandbox := range map[string]bool{"live": false, "sandbox": true} {
			t.Run(name+" "+string(format), func(t *testing.T) {
				want := write(t, format, openapi.Deployment{Sandbox: sandbox})
				all := func(string) bool { return true }
				if got := write(t, format, openapi.Deployment{Sandbox: sandbox, Serves: all}); !bytes.Equal(got, want) {
					t.Errorf("%d bytes that differ from %d bytes", len(got), len(want))
				}
			})
		}
	}
}

func TestOperationsThatAreNotServedAreLeftOut(t *testing.T) {
	without := func(service string) func(string) bool {
		return func(rpc string) bool {
			return contract.ByName(rpc).Descriptor.Parent().Name() != protoreflect.Name(service)
		}
	}
	for _, test := range []struct {
		name         string
		serves       func(rpc string) bool
		has, without []string // operations, tags, groups of tags and schemas
	}{
		{"writes", func(rpc string) bool { return !contract.ByName(rpc).Write },
			[]string{"ListGroups", "MonitorLimitOrder", "MonitorLimitOrder_2", "CalculateTransferFee", "CreateStreamTicket", "Groups", "ListGroupsResponse"},
			[]string{"CreateGroup", "UpdateGroup", "MintToken", "MintTokenRequest"}},
		{"a service", without("TransferService"), []string{"CreateGroup", "Accounts", "Wallet"},
			[]string{"CreateTransfer", "GetTransfer", "Transfers", "ListTransfersResponse"}},
		{"the only service of a group of tags", without("PriceService"), []string{"Trading"}, []string{"GetCurrentPriceByTokenPair", "Market data", "Prices"}},
		{"everything", func(string) bool { return false }, []string{"CreateStreamTicket", "Gateway", "StreamTicket"}, []string{"ListGroups", "Trading", "ListGroupsResponse"}},
	} {
		for _, format := range []openapi.Format{openapi.JSON, openapi.Swagger2} {
			t.Run(test.name+" "+string(format), func(t *testing.T) {
				content := write(t, format, openapi.Deployment{Serves: test.serves})
				names := namesIn(t, content)
				for _, want := range test.has {
					if !names[want] {
						t.Errorf("%s is missing", want)
					}
				}
				for _, unwanted := range test.without {
					if names[unwanted] {
						t.Errorf("it contains %s", unwanted)
					}
				}
				var root any
				if err := json.Unmarshal(content, &root); err != nil {
					t.Fatal(err)
				}
				for _, ref := range regexp.MustCompile(`"\$ref": "([^"]+)"`).FindAllSubmatch(content, -1) {
					if !resolves(root, string(ref[1])) {
						t.Errorf("%s does not exist", ref[1])
					}
				}
			})
		}
	}
}

// namesIn returns the names of the operations, tags, groups of tags and schemas of a document.
func namesIn(t *testing.T, content []byte) map[string]bool {
	t.Helper()
	type named struct{ Name string }
	var document struct {
		Tags        []named
		Groups      []named `json:"x-tagGroups"`
		Paths       map[string]map[string]operation
		Definitions map[string]any
		Components  struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, n := range append(document.Tags, document.Groups...) {
		names[n.Name] = true
	}
	for _, item := range document.Paths {
		for _, op := range item {
			names[op.OperationID] = true
		}
	}
	for _, schemas := range []map[string]any{document.Definitions, document.Components.Schemas} {
		for name := range schemas {
			names[name] = true
		}
	}
	return names
}

func TestInvalidPublicURLs(t *testing.T) {
	for _, url := range []string{"api.example.com", "ftp://api.example.com", "https://", "https://a.example/?q", "https://a.example/#f", "https://user@a.example", "%"} {
		if _, err := openapi.Write(openapi.JSON, openapi.Deployment{PublicURL: url}); err == nil {
			t.Errorf("%q is accepted", url)
		}
	}
}
