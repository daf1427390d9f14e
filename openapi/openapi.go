// Package openapi contains the OpenAPI documents of the REST API: one for the live API, and one for
// the sandbox, which has more operations. `go generate ./...` writes them from the contract. At run
// time the address of the server is filled in, and operations that are not served are left out.
package openapi

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The generated documents, in OpenAPI 3.1 and in Swagger 2.0.
var (
	//go:embed openapi.json
	live []byte
	//go:embed openapi.sandbox.json
	sandbox []byte
	//go:embed swagger.json
	liveSwagger []byte
	//go:embed swagger.sandbox.json
	sandboxSwagger []byte
)

// Format is a format of the document.
type Format string

// The formats.
const (
	JSON     Format = "json"     // OpenAPI 3.1
	YAML     Format = "yaml"     // OpenAPI 3.1 as YAML
	Swagger2 Format = "swagger2" // Swagger 2.0 as JSON, for tools that do not support OpenAPI 3.1
)

// Deployment is the gateway that a document describes.
type Deployment struct {
	// PublicURL is the URL at which clients reach the gateway, such as
	// https://api.example.com. If it is empty, clients use the address from which they
	// fetched the document.
	PublicURL string
	// Sandbox is set if the gateway is in front of the sandbox.
	Sandbox bool
	// Serves reports whether an RPC is served, by its full gRPC name. Operations that are not, and
	// what only they use, are left out. If it is nil, all are served.
	Serves func(rpc string) bool
}

// Validate returns an error if clients cannot use the public URL.
func (d Deployment) Validate() error {
	if d.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(d.PublicURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("invalid public URL %q: want https://HOST or https://HOST/PATH", d.PublicURL)
	}
	return nil
}

// Write returns the document of the deployment in a format.
func Write(format Format, deployment Deployment) ([]byte, error) {
	if err := deployment.Validate(); err != nil {
		return nil, err
	}
	switch format {
	case JSON:
		return writeOpenAPI(deployment)
	case YAML:
		content, err := writeOpenAPI(deployment)
		if err != nil {
			return nil, err
		}
		return toYAML(content)
	case Swagger2:
		return writeSwagger(deployment)
	}
	return nil, fmt.Errorf("unknown format %q: want %s, %s or %s", format, JSON, YAML, Swagger2)
}

// document is an OpenAPI document.
type document struct {
	OpenAPI json.RawMessage `json:"openapi"`
	Info    json.RawMessage `json:"info"`
	Servers []struct {
		URL         string          `json:"url"`
		Description json.RawMessage `json:"description,omitempty"`
	} `json:"servers"`
	Tags       []tag      `json:"tags"`
	TagGroups  []tagGroup `json:"x-tagGroups"`
	Paths      operations `json:"paths"`
	Components struct {
		Headers         map[string]json.RawMessage `json:"headers"`
		Parameters      map[string]json.RawMessage `json:"parameters"`
		Responses       map[string]json.RawMessage `json:"responses"`
		Schemas         map[string]json.RawMessage `json:"schemas"`
		SecuritySchemes json.RawMessage            `json:"securitySchemes"`
	} `json:"components"`
}

func writeOpenAPI(deployment Deployment) ([]byte, error) {
	generated := live
	if deployment.Sandbox {
		generated = sandbox
	}
	if deployment.PublicURL == "" && deployment.Serves == nil {
		return bytes.Clone(generated), nil
	}
	var d document
	err := decode(generated, &d)
	if err != nil {
		return nil, err
	}
	if deployment.PublicURL != "" {
		for i := range d.Servers {
			d.Servers[i].URL = strings.TrimSuffix(deployment.PublicURL, "/")
		}
	}
	if deployment.Serves != nil {
		d.Paths.keep(deployment.Serves, map[string]map[string]json.RawMessage{
			"components/headers": d.Components.Headers, "components/parameters": d.Components.Parameters,
			"components/responses": d.Components.Responses, "components/schemas": d.Components.Schemas,
		})
		if d.Tags, d.TagGroups, err = d.Paths.keepTags(d.Tags, d.TagGroups); err != nil {
			return nil, err
		}
	}
	return encode(d)
}

// swagger is a Swagger 2.0 document.
type swagger struct {
	BasePath            string                     `json:"basePath"`
	Definitions         map[string]json.RawMessage `json:"definitions"`
	Info                json.RawMessage            `json:"info"`
	Parameters          map[string]json.RawMessage `json:"parameters"`
	Paths               operations                 `json:"paths"`
	Responses           map[string]json.RawMessage `json:"responses"`
	SecurityDefinitions json.RawMessage            `json:"securityDefinitions"`
	Swagger             json.RawMessage            `json:"swagger"`
	Tags                []tag                      `json:"tags"`
	TagGroups           []tagGroup                 `json:"x-tagGroups"`
	Schemes             []string                   `json:"schemes,omitempty"`
	Host                string                     `json:"host,omitempty"`
}

func writeSwagger(deployment Deployment) ([]byte, error) {
	generated := liveSwagger
	if deployment.Sandbox {
		generated = sandboxSwagger
	}
	if deployment.PublicURL == "" && deployment.Serves == nil {
		return bytes.Clone(generated), nil
	}
	var s swagger
	err := decode(generated, &s)
	if err != nil {
		return nil, err
	}
	if deployment.PublicURL != "" {
		u, err := url.Parse(deployment.PublicURL)
		if err != nil {
			return nil, err
		}
		s.Schemes, s.Host, s.BasePath = []string{u.Scheme}, u.Host, cmp.Or(strings.TrimSuffix(u.Path, "/"), "/")
	}
	if deployment.Serves != nil {
		s.Paths.keep(deployment.Serves, map[string]map[string]json.RawMessage{
			"definitions": s.Definitions, "parameters": s.Parameters, "responses": s.Responses,
		})
		if s.Tags, s.TagGroups, err = s.Paths.keepTags(s.Tags, s.TagGroups); err != nil {
			return nil, err
		}
	}
	return encode(s)
}

// decode fails on unknown members, because encode would lose them.
func decode(content []byte, to any) error {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	return decoder.Decode(to)
}

// encode writes JSON in the style of the generated documents.
func encode(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(value)
	return out.Bytes(), err
}

// toYAML converts JSON to YAML in block style.
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
			// Some parsers read a string as a number that others do not, such as 0x… with 40
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
