// Package openapi holds the OpenAPI document of the REST API. It is generated
// from the contract, together with all else, by `go generate ./proto`; what
// depends on where the gateway runs is filled in here.
package openapi

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
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
		return writeOpenAPI(where)
	case YAML:
		content, err := writeOpenAPI(where)
		if err != nil {
			return nil, err
		}
		return toYAML(content)
	case Swagger2:
		return writeSwagger(where)
	}
	return nil, fmt.Errorf("%q is no format: want %s, %s or %s", format, JSON, YAML, Swagger2)
}

func writeOpenAPI(where Where) ([]byte, error) {
	type server struct {
		URL         string `json:"url"`
		Description string `json:"description,omitempty"`
	}
	is := server{URL: cmp.Or(strings.TrimSuffix(where.PublicURL, "/"), "/")}
	if where.Sandbox {
		is.Description = "A sandbox: play money."
	}
	root, err := parse([]byte(document))
	if err != nil {
		return nil, err
	}
	if err := root.set("servers", []server{is}); err != nil {
		return nil, err
	}
	if !where.Sandbox {
		if err := errors.Join(leaveOutSandbox(root), root.edit("components", withoutFault)); err != nil {
			return nil, err
		}
	}
	return root.indented()
}

func writeSwagger(where Where) ([]byte, error) {
	root, err := parse([]byte(swagger))
	if err != nil {
		return nil, err
	}
	at, err := url.Parse(where.PublicURL)
	if err != nil {
		return nil, err
	}
	if at.Host != "" {
		err = errors.Join(root.set("schemes", []string{at.Scheme}), root.set("host", at.Host))
	}
	err = errors.Join(err, root.set("basePath", cmp.Or(strings.TrimSuffix(at.Path, "/"), "/")))
	if !where.Sandbox {
		err = errors.Join(err, leaveOutSandbox(root), withoutFault(root))
	}
	if err != nil {
		return nil, err
	}
	return root.indented()
}

// What only a sandbox has: paths that begin so, their tag, and a parameter.
const (
	sandboxPath  = "/sandbox:"
	sandboxTag   = "Sandbox"
	sandboxFault = "SandboxFault"
)

// leaveOutSandbox takes it out of what both versions of the document share.
func leaveOutSandbox(root *object) error {
	ofSandbox := func(tag json.RawMessage) bool { return bytes.Contains(tag, []byte(`"name": "`+sandboxTag+`"`)) }
	return errors.Join(
		root.filter("tags", ofSandbox),
		root.each("x-tagGroups", func(group *object) error {
			return group.filter("tags", func(name json.RawMessage) bool { return string(name) == `"`+sandboxTag+`"` })
		}),
		root.edit("paths", func(paths *object) error {
			for _, path := range slices.Clone(paths.names) {
				if strings.HasPrefix(path, sandboxPath) {
					paths.delete(path)
					continue
				}
				if err := paths.edit(path, leaveOutFault); err != nil {
					return err
				}
			}
			return nil
		}),
	)
}

// leaveOutFault takes the parameter away from the operations of a path.
func leaveOutFault(item *object) error {
	for _, verb := range item.names {
		if err := item.edit(verb, func(operation *object) error {
			return operation.filter("parameters", func(parameter json.RawMessage) bool {
				return bytes.Contains(parameter, []byte("/"+sandboxFault+`"`))
			})
		}); err != nil {
			return err
		}
	}
	return nil
}

func withoutFault(holder *object) error {
	return holder.edit("parameters", func(parameters *object) error {
		parameters.delete(sandboxFault)
		return nil
	})
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
