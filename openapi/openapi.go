// Package openapi holds the OpenAPI document of the REST API. It is generated
// from the contract, together with all else, by `go generate ./proto`; what
// depends on where the gateway runs is filled in here.
package openapi

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

//go:embed openapi.json
var document string

//go:embed swagger.json
var swagger string

// Format is a way to write the document.
type Format string

// The formats.
const (
	JSON     Format = "json"     // OpenAPI 3.1
	YAML     Format = "yaml"     // the same as YAML
	Swagger2 Format = "swagger2" // Swagger 2.0, as JSON, for tools that take nothing newer
)

// Where is where a gateway runs.
type Where struct {
	// PublicURL is what clients reach it by, such as https://api.example.com; ""
	// leaves it to the address that the document was fetched from.
	PublicURL string
	// Sandbox is set where the sandbox answers: without it, what only that has is
	// left out.
	Sandbox bool
}

// Validate reports a public URL that clients could not use.
func (w Where) Validate() error {
	if w.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(w.PublicURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%q is no URL of a server: want https://HOST, with a path if there is one", w.PublicURL)
	}
	return nil
}

// Write returns the document in the format, for a gateway that runs there.
func Write(format Format, where Where) ([]byte, error) {
	if err := where.Validate(); err != nil {
		return nil, err
	}
	switch format {
	case JSON:
		return rewrite(new(openAPI), document, where)
	case YAML:
		content, err := rewrite(new(openAPI), document, where)
		if err != nil {
			return nil, err
		}
		return toYAML(content)
	case Swagger2:
		return rewrite(new(swagger2), swagger, where)
	}
	return nil, fmt.Errorf("%q is no format: want %s, %s or %s", format, JSON, YAML, Swagger2)
}

// versioned is a document of one version of the specification, with the members
// that the generator wrote, in its order.
type versioned interface {
	setServer(where Where) error
	deleteParameter(name string) error // of those that operations refer to
	paths() *map[string]json.RawMessage
	tags() *[]tag
	groups() *[]tagGroup
}

type shared struct {
	Tags   []tag                      `json:"tags"`
	Groups []tagGroup                 `json:"x-tagGroups"`
	Paths  map[string]json.RawMessage `json:"paths"`
}

type tag struct {
	Description string `json:"description"`
	Name        string `json:"name"`
}

type tagGroup struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

func (s *shared) paths() *map[string]json.RawMessage { return &s.Paths }
func (s *shared) tags() *[]tag                       { return &s.Tags }
func (s *shared) groups() *[]tagGroup                { return &s.Groups }

type openAPI struct {
	OpenAPI json.RawMessage `json:"openapi"`
	Info    json.RawMessage `json:"info"`
	Servers []server        `json:"servers"`
	shared
	Components json.RawMessage `json:"components"`
}

type server struct {
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
}

func (d *openAPI) setServer(where Where) error {
	d.Servers = []server{{URL: cmp.Or(strings.TrimSuffix(where.PublicURL, "/"), "/")}}
	if where.Sandbox {
		d.Servers[0].Description = "A sandbox: play money."
	}
	return nil
}

func (d *openAPI) deleteParameter(name string) error {
	var components map[string]json.RawMessage
	if err := json.Unmarshal(d.Components, &components); err != nil {
		return err
	}
	parameters, err := without(components["parameters"], name)
	if err != nil {
		return err
	}
	components["parameters"] = parameters
	d.Components, err = encode(components)
	return err
}

type swagger2 struct {
	Swagger  json.RawMessage `json:"swagger"`
	Info     json.RawMessage `json:"info"`
	Schemes  []string        `json:"schemes,omitempty"`
	Host     string          `json:"host,omitempty"`
	BasePath string          `json:"basePath"`
	shared
	Parameters  json.RawMessage `json:"parameters"`
	Responses   json.RawMessage `json:"responses"`
	Security    json.RawMessage `json:"securityDefinitions"`
	Definitions json.RawMessage `json:"definitions"`
}

func (d *swagger2) setServer(where Where) error {
	u, err := url.Parse(where.PublicURL)
	if err != nil {
		return err
	}
	if d.Host = u.Host; d.Host != "" {
		d.Schemes = []string{u.Scheme}
	}
	d.BasePath = cmp.Or(strings.TrimSuffix(u.Path, "/"), "/")
	return nil
}

func (d *swagger2) deleteParameter(name string) (err error) {
	d.Parameters, err = without(d.Parameters, name)
	return err
}

// without is an object without one of its members.
func without(object json.RawMessage, name string) (json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, err
	}
	delete(members, name)
	return encode(members)
}

// sandboxOnly is how the paths and the header begin that only a sandbox has.
const (
	sandboxOnly  = "/sandbox:"
	sandboxTag   = "Sandbox"
	sandboxFault = "SandboxFault" // the parameter
)

// rewrite fills in where the gateway runs, and leaves all else as it is, to the
// order of the members.
func rewrite(d versioned, content string, where Where) ([]byte, error) {
	if err := json.Unmarshal([]byte(content), d); err != nil {
		return nil, err
	}
	if err := d.setServer(where); err != nil {
		return nil, err
	}
	if !where.Sandbox {
		if err := leaveOutSandbox(d); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(d)
	return out.Bytes(), err
}

func leaveOutSandbox(d versioned) error {
	*d.tags() = slices.DeleteFunc(*d.tags(), func(t tag) bool { return t.Name == sandboxTag })
	for i := range *d.groups() {
		group := &(*d.groups())[i]
		group.Tags = slices.DeleteFunc(group.Tags, func(name string) bool { return name == sandboxTag })
	}
	for path, item := range *d.paths() {
		if strings.HasPrefix(path, sandboxOnly) {
			delete(*d.paths(), path)
			continue
		}
		var operations map[string]map[string]json.RawMessage
		if err := json.Unmarshal(item, &operations); err != nil {
			return err
		}
		for _, operation := range operations {
			var parameters []json.RawMessage
			if err := json.Unmarshal(operation["parameters"], &parameters); err != nil && operation["parameters"] != nil {
				return err
			}
			kept := slices.DeleteFunc(parameters, func(parameter json.RawMessage) bool {
				return bytes.Contains(parameter, []byte("/"+sandboxFault+`"`))
			})
			if len(kept) == len(parameters) && len(kept) > 0 || operation["parameters"] == nil {
				continue
			}
			content, err := json.Marshal(kept)
			if err != nil {
				return err
			}
			operation["parameters"] = content
		}
		content, err := encode(operations)
		if err != nil {
			return err
		}
		(*d.paths())[path] = content
	}
	return d.deleteParameter(sandboxFault)
}

// encode is json.Marshal, which would write < as \u003c.
func encode(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return out.Bytes(), err
}

// toYAML writes JSON, which is YAML of another style, as people write YAML.
func toYAML(content []byte) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(content, &root); err != nil {
		return nil, err
	}
	var restyle func(*yaml.Node)
	restyle = func(node *yaml.Node) {
		node.Style = 0
		switch text := node.Kind == yaml.ScalarNode && node.Tag == "!!str"; {
		case text && strings.Contains(node.Value, "\n"):
			node.Style = yaml.LiteralStyle
		case text && strings.ContainsAny(firstByte(node.Value), "+-.0123456789"):
			// What is too long for a number here is one to other parsers: 0x… of 40
			// digits.
			node.Style = yaml.DoubleQuotedStyle
		}
		for _, child := range node.Content {
			restyle(child)
		}
	}
	restyle(&root)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&root); err != nil {
		return nil, err
	}
	err := encoder.Close()
	return out.Bytes(), err
}

func firstByte(text string) string { return text[:min(1, len(text))] }
