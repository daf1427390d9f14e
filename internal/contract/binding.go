package contract

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
)

// Binding is an HTTP route of a method, as declared by google.api.http.
type Binding struct {
	// Method is the method that the route calls.
	Method *Method
	// Verb is the HTTP method.
	Verb string
	// Template is the path template, such as "/v1/{name=groups/*}".
	Template string
	// Body is the request field that the body sets, "*" for the whole request, or "" if the
	// route has no body.
	Body string
	// PathField is the request field that the path sets, in proto spelling and with dots between
	// the names of nested fields, or "" if the path has no variable.
	PathField string

	pattern, variable, route string
}

func bind(method *Method, rule *annotations.HttpRule) (*Binding, error) {
	b := &Binding{Method: method, Body: rule.GetBody()}
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		b.Verb, b.Template = "GET", pattern.Get
	case *annotations.HttpRule_Put:
		b.Verb, b.Template = "PUT", pattern.Put
	case *annotations.HttpRule_Post:
		b.Verb, b.Template = "POST", pattern.Post
	case *annotations.HttpRule_Delete:
		b.Verb, b.Template = "DELETE", pattern.Delete
	case *annotations.HttpRule_Patch:
		b.Verb, b.Template = "PATCH", pattern.Patch
	default:
		return nil, errors.New("google.api.http binding without a path")
	}

	b.route = b.Verb + " " + b.Template

	before, rest, found := strings.Cut(b.Template, "{")
	if !found {
		b.pattern = b.Template
		return b, nil
	}
	variable, after, closed := strings.Cut(rest, "}")
	if !closed {
		return nil, fmt.Errorf("template %s: no closing brace", b.Template)
	}
	field, segments, templated := strings.Cut(variable, "=")
	if !templated {
		segments = "*"
	}
	if strings.Count(segments, "*") != 1 || strings.ContainsAny(before+after, "*{") {
		return nil, fmt.Errorf("template %s: only one variable with one * is supported", b.Template)
	}
	b.pattern, b.variable, b.PathField = before+segments+after, segments, field
	return b, nil
}

// Route returns the HTTP method and the path template, such as "GET /v1/{name=groups/*}". It has the
// form of net/http.Request.Pattern.
func (b *Binding) Route() string { return b.route }

// Pattern returns the path with parameter in place of its variable segment, such as
// "/v1/groups/{id}:close" for the parameter "{id}".
func (b *Binding) Pattern(parameter string) string {
	return strings.Replace(b.pattern, "*", parameter, 1)
}

// PathValue returns the value of PathField for a value of the variable segment, such as "groups/X"
// for the segment "X" of "/v1/{name=groups/*}". It returns "" if the path has no variable.
func (b *Binding) PathValue(segment string) string {
	return strings.Replace(b.variable, "*", segment, 1)
}
