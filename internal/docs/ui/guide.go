package ui

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"regexp"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	"github.com/meshtrade/mesh-gateway/openapi"
)

// guide is the data of the guide's template.
type guide struct {
	Options
	// URL is the address of the gateway in the snippets.
	URL string
	// Key and Group are the credentials in the snippets.
	Key, Group string
	// GRPC is the address of the sandbox for the official SDKs.
	GRPC    hostPort
	Roles   []guideRole
	Sorted  []sortedList
	Reasons []apierror.Reason
	Tags    []guideTag

	description
}

type hostPort struct{ Host, Port string }

// String returns HOST:PORT.
func (a hostPort) String() string { return net.JoinHostPort(a.Host, a.Port) }

type guideTag struct {
	Name, Description string
	Operations        []guideOperation
}

// Anchor returns the URL fragment of the tag.
func (t guideTag) Anchor() string {
	return "tag-" + strings.ReplaceAll(strings.ToLower(t.Name), " ", "-")
}

type guideOperation struct {
	ID, Verb, Path, Summary, Description string
	// Before lists the operations that the example needs to be called first.
	Before   []string
	Snippets []Snippet
}

// description is the part of the document that the guide reads.
type description struct {
	Tags       []struct{ Name, Description string }
	Paths      map[string]map[string]describedOperation
	Components struct {
		Schemas map[string]struct {
			Enum     []string
			Meanings []string `json:"x-enum-descriptions"`
		}
	}
}

type describedOperation struct {
	OperationID, Summary, Description string
	Tags                              []string
	Parameters                        []struct {
		Name   string
		Schema struct{ Enum []string }
	}
	Responses map[string]struct {
		Content map[string]json.RawMessage
	}
}

// answers returns the kind of the response.
func (op describedOperation) answers() kind {
	content := op.Responses["200"].Content
	if _, ok := content[wire.NDJSON]; ok {
		return stream
	}
	if _, ok := content[wire.Workbook]; ok {
		return workbook
	}
	return message
}

// newGuide combines the description of each operation that is served with an example call that
// succeeds.
func newGuide(o Options) (*guide, error) {
	// The guide explains enums that only operations have that are not served.
	whole := o.Deployment
	whole.Serves = nil
	content, err := openapi.Write(openapi.JSON, whole)
	if err != nil {
		return nil, err
	}
	var d description
	if err := json.Unmarshal(content, &d); err != nil {
		return nil, err
	}
	g := &guide{
		Options: o, URL: strings.TrimSuffix(o.Deployment.PublicURL, "/"),
		Roles: newRoles(o), Sorted: d.sorted(o), Reasons: apierror.Reasons(), description: d,
	}
	if g.GRPC.Host, g.GRPC.Port, err = net.SplitHostPort(o.SandboxGRPC); err != nil {
		return nil, err
	}
	if g.URL == "" {
		g.URL = "http://127.0.0.1:8080"
	}
	g.Key, g.Group = "your API key", "groups/…"
	if len(o.TestKeys) > 0 {
		g.Key, g.Group = o.TestKeys[0].Key, o.TestKeys[0].Group
	}

	snippets, err := newSnippets()
	if err != nil {
		return nil, err
	}
	byTag := make(map[string][]guideOperation)
	shown := make(map[string]bool)
	for _, call := range examples.Successes() {
		described, path, ok := d.find(call)
		if !ok || shown[described.OperationID] || !o.servesCall(call) {
			continue
		}
		shown[described.OperationID] = true
		op := guideOperation{ID: described.OperationID, Verb: call.Method, Path: path, Summary: described.Summary, Description: described.Description}
		for _, before := range call.Before {
			if first, path, ok := d.find(before); ok && strings.HasPrefix(path, "/v1/") && o.servesCall(before) {
				op.Before = append(op.Before, first.OperationID)
			}
		}
		if op.Snippets, err = snippets.of(call, described.answers()); err != nil {
			return nil, fmt.Errorf("%s: %w", op.ID, err)
		}
		tag := described.Tags[0]
		byTag[tag] = append(byTag[tag], op)
	}
	for _, tag := range d.Tags {
		if operations := byTag[tag.Name]; len(operations) > 0 {
			g.Tags = append(g.Tags, guideTag{tag.Name, tag.Description, operations})
		}
	}
	return g, nil
}

// find returns the operation of a call, and its path.
func (d description) find(call examples.Call) (op describedOperation, template string, ok bool) {
	path, _, _ := strings.Cut(call.Path, "?")
	for template, item := range d.Paths {
		op, ok := item[strings.ToLower(call.Method)]
		if _, matches := examples.Match(template, path); ok && matches && len(op.Tags) > 0 {
			return op, template, true
		}
	}
	return op, "", false
}

var code = regexp.MustCompile("`([^`]*)`")

// prose converts Markdown to HTML. It supports paragraphs and code in backquotes, because the
// comments of the contract use nothing else.
func prose(markdown string) template.HTML {
	var html strings.Builder
	for paragraph := range strings.SplitSeq(markdown, "\n\n") {
		text := code.ReplaceAllString(template.HTMLEscapeString(paragraph), "<code>$1</code>")
		fmt.Fprintf(&html, "<p>%s</p>", text)
	}
	return template.HTML(html.String()) //nolint:gosec // escaped above
}

var link = regexp.MustCompile(`<a\s+href="#([A-Z]\w*)">([^<]*)</a>`)

// unlink replaces links to operations that the page does not have by their text.
func (g *guide) unlink(page []byte) []byte {
	shown := make(map[string]bool)
	for _, tag := range g.Tags {
		for _, op := range tag.Operations {
			shown[op.ID] = true
		}
	}
	return link.ReplaceAllFunc(page, func(match []byte) []byte {
		parts := link.FindSubmatch(match)
		if shown[string(parts[1])] {
			return match
		}
		return parts[2]
	})
}
