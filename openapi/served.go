package openapi

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// operations are the operations of a document by path and HTTP method.
type operations map[string]map[string]json.RawMessage

// tag is a tag of a document.
type tag struct {
	Description string `json:"description"`
	Name        string `json:"name"`
}

// tagGroup is a group of tags.
type tagGroup struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// parameter is a parameter in the template of a path.
var parameter = regexp.MustCompile(`\{[^}]*\}`)

// methodOf returns the RPC of an operation, or "" if it is an operation of the gateway itself.
func methodOf(template, verb string) string {
	path, _ := contract.Match(parameter.ReplaceAllString(template, "x"))
	if path == nil {
		return ""
	}
	binding := path.Binding(strings.ToUpper(verb))
	if binding == nil {
		return ""
	}
	return binding.Method.Name()
}

// keep removes the operations that are not served, and from the components those that only they use.
// The components are grouped by their place in the document, such as "components/schemas".
func (o operations) keep(serves func(rpc string) bool, components map[string]map[string]json.RawMessage) {
	before := o.uses(components)
	for template, item := range o {
		for verb := range item {
			if rpc := methodOf(template, verb); rpc != "" && !serves(rpc) {
				delete(item, verb)
			}
		}
		if len(item) == 0 {
			delete(o, template)
		}
	}
	after := o.uses(components)
	for at := range before {
		if !after[at] {
			delete(components[at.section], at.name)
		}
	}
}

// keepTags returns the tags that operations have, and the groups of these.
func (o operations) keepTags(tags []tag, groups []tagGroup) ([]tag, []tagGroup, error) {
	used := make(map[string]bool)
	for _, item := range o {
		for _, content := range item {
			var operation struct{ Tags []string }
			if err := json.Unmarshal(content, &operation); err != nil {
				return nil, nil, err
			}
			for _, name := range operation.Tags {
				used[name] = true
			}
		}
	}
	tags = slices.DeleteFunc(tags, func(t tag) bool { return !used[t.Name] })
	for i := range groups {
		groups[i].Tags = slices.DeleteFunc(groups[i].Tags, func(name string) bool { return !used[name] })
	}
	return tags, slices.DeleteFunc(groups, func(g tagGroup) bool { return len(g.Tags) == 0 }), nil
}

// reference is a reference to a component, such as "#/components/schemas/Account".
var reference = regexp.MustCompile(`"\$ref":\s*"#/([^"]+)/([^"/]+)"`)

// place is where a component is.
type place struct{ section, name string }

// uses returns the components that operations refer to, also by way of others.
func (o operations) uses(components map[string]map[string]json.RawMessage) map[place]bool {
	used := make(map[place]bool)
	var follow func(content json.RawMessage)
	follow = func(content json.RawMessage) {
		for _, match := range reference.FindAllSubmatch(content, -1) {
			at := place{string(match[1]), string(match[2])}
			if !used[at] {
				used[at] = true
				follow(components[at.section][at.name])
			}
		}
	}
	for _, item := range o {
		for _, content := range item {
			follow(content)
		}
	}
	return used
}
