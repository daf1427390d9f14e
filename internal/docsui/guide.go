package docsui

import (
	"encoding/json"
	"fmt"
	"html/template"
	"regexp"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/tour"
	"github.com/meshtrade/mesh-gateway/openapi"
)

// guide is what the guide's template is filled with.
type guide struct {
	Options
	// URL is what the snippets reach the gateway by.
	URL string
	// Key and Group are what the snippets authenticate with.
	Key, Group string
	Reasons    []apierror.Reason
	Tags       []guideTag
}

type guideTag struct {
	Name, Description string
	Operations        []guideOperation
}

// Anchor is the tag as a fragment.
func (t guideTag) Anchor() string {
	return "tag-" + strings.ReplaceAll(strings.ToLower(t.Name), " ", "-")
}

type guideOperation struct {
	ID, Verb, Path, Summary, Description string
	// Before names the operations whose calls the example needs before it.
	Before   []string
	Snippets []Snippet
}

// description is the part of the document that the guide reads.
type description struct {
	Tags  []struct{ Name, Description string }
	Paths map[string]map[string]struct {
		OperationID string
		Tags        []string
		Summary     string
		Description string
		Responses   map[string]struct {
			Content map[string]json.RawMessage
		}
	}
}

// newGuide joins what the document says of each operation with a call that works.
func newGuide(o Options) (*guide, error) {
	content, err := openapi.Write(openapi.JSON, o.Where)
	if err != nil {
		return nil, err
	}
	var d description
	if err := json.Unmarshal(content, &d); err != nil {
		return nil, err
	}
	g := &guide{Options: o, URL: strings.TrimSuffix(o.Where.PublicURL, "/"), Reasons: apierror.Reasons()}
	if g.URL == "" {
		g.URL = "http://127.0.0.1:8080"
	}
	g.Key, g.Group = "the API key", "groups/…"
	if len(o.TestKeys) > 0 {
		g.Key, g.Group = o.TestKeys[0].Key, o.TestKeys[0].Group
	}

	snippets, err := newSnippets()
	if err != nil {
		return nil, err
	}
	byTag := make(map[string][]guideOperation)
	shown := make(map[string]bool)
	for _, stop := range tour.Stops() {
		op, tag, ok := d.find(stop)
		if !ok || shown[op.ID] || stop.Status >= 400 {
			continue
		}
		shown[op.ID] = true
		for _, before := range stop.Before {
			if first, _, ok := d.find(before); ok && strings.HasPrefix(first.Path, "/v1/") {
				op.Before = append(op.Before, first.ID)
			}
		}
		if op.Snippets, err = snippets.of(stop, d.call(stop)); err != nil {
			return nil, fmt.Errorf("%s: %w", op.ID, err)
		}
		byTag[tag] = append(byTag[tag], op)
	}
	for _, tag := range d.Tags {
		if operations := byTag[tag.Name]; len(operations) > 0 {
			g.Tags = append(g.Tags, guideTag{tag.Name, tag.Description, operations})
		}
	}
	return g, nil
}

// find returns the operation that a call is of.
func (d description) find(stop tour.Stop) (op guideOperation, tag string, ok bool) {
	path, _, _ := strings.Cut(stop.Path, "?")
	for pattern, item := range d.Paths {
		found, ok := item[strings.ToLower(stop.Method)]
		if _, matches := tour.Match(pattern, path); ok && matches && len(found.Tags) > 0 {
			return guideOperation{ID: found.OperationID, Verb: stop.Method, Path: pattern, Summary: found.Summary, Description: found.Description}, found.Tags[0], true
		}
	}
	return op, "", false
}

// call is how the answer to a call is to be read.
func (d description) call(stop tour.Stop) kind {
	path, _, _ := strings.Cut(stop.Path, "?")
	for pattern, item := range d.Paths {
		if _, matches := tour.Match(pattern, path); !matches {
			continue
		}
		content := item[strings.ToLower(stop.Method)].Responses["200"].Content
		if _, ok := content["application/x-ndjson"]; ok {
			return stream
		}
		if _, ok := content[workbookMedia]; ok {
			return workbook
		}
	}
	return message
}

var code = regexp.MustCompile("`([^`]*)`")

// prose is Markdown of the document as HTML: paragraphs, and code between
// backquotes, which is all that the contract's comments use.
func prose(markdown string) template.HTML {
	var html strings.Builder
	for paragraph := range strings.SplitSeq(markdown, "\n\n") {
		text := code.ReplaceAllString(template.HTMLEscapeString(paragraph), "<code>$1</code>")
		fmt.Fprintf(&html, "<p>%s</p>", text)
	}
	return template.HTML(html.String()) //nolint:gosec // it is escaped above
}
