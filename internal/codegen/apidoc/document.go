// Package apidoc writes the OpenAPI document. It starts from the output of protoc-gen-openapiv3,
// which describes the messages and their comments. The plugin leaves out access rules, validation,
// errors, headers and examples, and describes streams in a format that this gateway does not use.
// This package adds them from internal/contract, the descriptors, and recorded responses of the
// sandbox.
package apidoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
)

// object is a JSON object. Its members are encoded in the order of their names.
type object = map[string]any

// document is an OpenAPI document. Only the top-level members have types, because little of the
// rest is changed.
type document struct {
	OpenAPI    string            `json:"openapi"`
	Info       object            `json:"info"`
	Servers    []server          `json:"servers"`
	Tags       []object          `json:"tags"`
	TagGroups  []object          `json:"x-tagGroups"`
	Paths      map[string]object `json:"paths"`
	Components object            `json:"components"`
}

// server is the address of the API. The gateway replaces the URL if its public URL is configured.
type server struct {
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
}

// contractVersion is the release of the Mesh API that the .proto files are from.
const contractVersion = "1.69.0"

const description = `The Mesh API, which is a gRPC API, over HTTP and JSON. Each operation is one RPC with the same name. Requests and responses are the messages of the RPC as ProtoJSON: lowerCamelCase names, 64-bit integers as strings, enums by name. Responses omit fields that have their default value. [The guide](/docs/guide) has more information, and each operation in curl, JavaScript, Python and Go.

Authenticate with an API key in ` + "`X-Api-Key`" + `, or the same key in ` + "`Authorization: Bearer`" + `, and send the group to act in as ` + "`X-Group`" + `, in the form ` + "`groups/{ULID}`" + `. The API user of the key needs one of the roles listed under ` + "`x-mesh-roles`" + ` in that group or in a group above it. Operations without security need neither header.

Every error is a google.rpc.Status as JSON: a gRPC code, a message for developers, and details for programs. Streams are newline-delimited JSON, one message per line. If a stream fails after it has started, its last line is ` + "`{\"error\": Status}`" + `. With ` + "`Accept: text/event-stream`" + ` they are server-sent events: ` + "`message`" + ` for each message, and finally ` + "`error`" + ` or ` + "`end`" + `. A client that reconnects with ` + "`Last-Event-ID`" + ` gets the current state if it has changed. States in between are not replayed. The status is 200 after the first message, or after 15 seconds if there is no message by then; an earlier failure is an ordinary error response.

A request may have an ID in ` + "`X-Request-Id`" + `. It is in the response, in errors and in the logs.`

// Documents are the OpenAPI documents, as JSON: Sandbox for a gateway in front of the sandbox, and
// Live for all others.
type Documents struct{ Live, Sandbox []byte }

// Write completes merged, the merged output of the plugin. It fails if merged or recorded lacks an
// operation of the contract. Comments come from sources, the .proto files with their source info,
// because the descriptors in the generated code have no comments.
func Write(sources *descriptorpb.FileDescriptorSet, merged []byte, recorded []examples.Recording) (written Documents, err error) {
	commented, err := protodesc.NewFiles(sources)
	if err != nil {
		return written, err
	}
	operations, err := operations(contract.Methods())
	if err != nil {
		return written, err
	}
	var d document
	if err := json.Unmarshal(merged, &d); err != nil {
		return written, err
	}
	for _, tag := range d.Tags {
		tag["description"] = inJSON(unwrap(fmt.Sprint(tag["description"])))
	}
	for _, item := range d.Paths {
		unwrapDescriptions(item)
	}
	unwrapDescriptions(d.Components)
	eachObject(d.Components, bound)

	if err := d.finishPaths(operations); err != nil {
		return written, err
	}
	if err := d.finishSchemas(commented); err != nil {
		return written, err
	}
	d.addComponents()
	d.addTickets()
	d.addSandbox()
	d.finishTags(operations)
	d.OpenAPI = "3.1.0"
	d.Info = object{
		"title": "Mesh API over REST", "version": contractVersion, "description": description,
		"contact": object{"name": "Mesh", "url": "https://mesh.trade"},
	}
	d.Servers = []server{{URL: "/", Description: "A sandbox with play money."}}
	if d, err = d.plain(); err != nil {
		return written, err
	}
	if err := d.addExamples(recorded); err != nil {
		return written, err
	}
	if written.Sandbox, err = encode(d); err != nil {
		return written, err
	}
	d.removeSandbox()
	written.Live, err = encode(d)
	return written, err
}

// bound adds the limits of int32, because not all tools know the format.
func bound(schema object) {
	if schema["format"] == "int32" {
		schema["minimum"], schema["maximum"] = math.MinInt32, math.MaxInt32
	}
}

var (
	fieldName = regexp.MustCompile("`[a-z]+(_[a-z0-9]+)+`")
	snakeCase = regexp.MustCompile("[a-z]+(_[a-z0-9]+)+")
)

// inJSON changes field names in a comment to their JSON names.
func inJSON(comment string) string { return fieldName.ReplaceAllStringFunc(comment, camelCase) }

// camelCase changes every snake_case name in a text to lowerCamelCase.
func camelCase(text string) string {
	return snakeCase.ReplaceAllStringFunc(text, func(name string) string {
		words := strings.Split(name, "_")
		for i, word := range words[1:] {
			words[i+1] = strings.ToUpper(word[:1]) + word[1:]
		}
		return strings.Join(words, "")
	})
}

// unwrapDescriptions joins the lines of comments.
func unwrapDescriptions(value any) {
	eachObject(value, func(o object) {
		for _, name := range []string{"description", "summary"} {
			if text, ok := o[name].(string); ok {
				o[name] = inJSON(unwrap(text))
			}
		}
	})
}

// finishPaths renames the paths of the plugin after their resources, and completes their
// operations.
func (d *document) finishPaths(operations map[string]operation) error {
	paths := make(map[string]object)
	requests := make(object)
	seen := 0
	for path, item := range d.Paths {
		for verb, value := range item {
			content, _ := value.(object)
			key, _ := content["operationId"].(string)
			op, known := operations[key]
			if !known || !strings.EqualFold(op.Verb, verb) {
				return fmt.Errorf("%s %s: no route of the contract is %q", verb, path, key)
			}
			if err := op.finish(content, requests); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if paths[op.route.path] == nil {
				paths[op.route.path] = object{}
			}
			if _, taken := paths[op.route.path][verb]; taken {
				return fmt.Errorf("%s %s is bound twice", verb, op.route.path)
			}
			paths[op.route.path][verb] = content
			seen++
		}
	}
	if seen != len(operations) {
		return fmt.Errorf("%d operations described, %d in the contract", seen, len(operations))
	}
	d.Paths = paths
	schemas, ok := d.Components["schemas"].(object)
	if !ok {
		return fmt.Errorf("no schemas")
	}
	for name, schema := range requests {
		schemas[name] = schema
	}
	return nil
}

// finishTags sorts the tags by domain and adds a tag group for each domain.
func (d *document) finishTags(operations map[string]operation) {
	domains := make(map[string]string)
	for _, op := range operations {
		domains[op.tag()] = op.domain()
	}
	for _, tag := range d.Tags {
		name, _ := tag["name"].(string)
		tag["name"] = tagName(name)
	}
	groups := []struct{ domain, name string }{
		{"iam", "Identity and access"}, {"compliance", "Compliance"}, {"wallet", "Wallet"}, {"ledger", "Ledger"},
		{"market_data", "Market data"}, {"trading", "Trading"}, {"reporting", "Reporting"}, {"testing", "Testing"},
	}
	position := func(tag object) int {
		return slices.IndexFunc(groups, func(g struct{ domain, name string }) bool { return g.domain == domains[fmt.Sprint(tag["name"])] })
	}
	slices.SortStableFunc(d.Tags, func(a, b object) int { return position(a) - position(b) })
	for _, group := range groups {
		var names []string
		for _, tag := range d.Tags {
			if name := fmt.Sprint(tag["name"]); domains[name] == group.domain {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			d.TagGroups = append(d.TagGroups, object{"name": group.name, "tags": names})
		}
	}
	d.Tags = append(d.Tags,
		object{"name": gatewayTag, "description": "Operations that the gateway adds to the Mesh API."},
		object{"name": sandboxTag, "description": "Controls of the sandbox: reset, and the clock. They need no key, and exist only in a sandbox."})
	d.TagGroups = append(d.TagGroups, object{"name": "Gateway", "tags": []string{gatewayTag, sandboxTag}})
}

// plain returns the document with only the types that encoding/json decodes to, and with
// references to the short names of schemas.
func (d document) plain() (document, error) {
	content, err := json.Marshal(d)
	if err != nil {
		return d, err
	}
	var plain document
	if err := json.Unmarshal(content, &plain); err != nil {
		return d, err
	}
	shorten := func(o object) {
		if target, ok := o["$ref"].(string); ok {
			if name, schema := strings.CutPrefix(target, schemaRef); schema {
				o["$ref"] = schemaRef + afterPackage(name)
			}
		}
	}
	for _, item := range plain.Paths {
		eachObject(item, shorten)
	}
	eachObject(plain.Components, shorten)
	return plain, nil
}

// afterPackage returns the short name of a schema from the full name of its message: the part
// after the last component that starts with a lower-case letter.
func afterPackage(name string) string {
	parts := strings.Split(name, ".")
	for len(parts) > 1 && parts[0] != "" && parts[0][0] >= 'a' && parts[0][0] <= 'z' {
		parts = parts[1:]
	}
	return strings.Join(parts, "")
}

// encode writes JSON for people: one member per line, and < is not escaped.
func encode(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(value)
	return out.Bytes(), err
}
