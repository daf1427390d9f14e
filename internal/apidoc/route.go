package apidoc

import (
	"fmt"
	"strings"
	"unicode"
)

// route is a google.api.http template as OpenAPI writes it.
type route struct {
	// path has its variable named for the resource, so that all operations on a
	// resource share one path item: "/v1/groups/{group}".
	path string
	// parameter is the name of the variable segment: "group". It is empty where
	// the path has no variable, or one that holds a whole field and keeps its
	// name.
	parameter string
	// field and collection say what the segment is for: with the collection
	// "groups/" in front, it is the value of the request's field.
	field, collection string
}

func readRoute(template string) (route, error) {
	before, after, found := strings.Cut(template, "{")
	if !found {
		return route{path: template}, nil
	}
	variable, tail, closed := strings.Cut(after, "}")
	if !closed || strings.Contains(tail, "{") {
		return route{}, fmt.Errorf("template %q: want one variable", template)
	}
	field, segments, templated := strings.Cut(variable, "=")
	if !templated {
		return route{path: template}, nil
	}
	collection, starred := strings.CutSuffix(segments, "/*")
	if !starred || strings.Contains(collection, "*") {
		return route{}, fmt.Errorf("template %q: want {field=collection/*}", template)
	}
	parameter := singular(collection[strings.LastIndex(collection, "/")+1:])
	return route{
		path:       before + collection + "/{" + parameter + "}" + tail,
		parameter:  parameter,
		field:      field,
		collection: collection + "/",
	}, nil
}

// singular is the English singular of a collection's name.
func singular(plural string) string {
	if stem, ok := strings.CutSuffix(plural, "ies"); ok {
		return stem + "y"
	}
	return strings.TrimSuffix(plural, "s")
}

// tagName is how a reader calls what a service is about: "API users" for
// APIUserService.
func tagName(service string) string {
	words := splitWords(strings.TrimSuffix(service, "Service"))
	for i, word := range words {
		if i > 0 && !isAcronym(word) {
			words[i] = strings.ToLower(word)
		}
	}
	name := strings.Join(words, " ")
	if stem, ok := strings.CutSuffix(name, "y"); ok {
		return stem + "ies"
	}
	return name + "s"
}

// splitWords splits CamelCase, and keeps an acronym in one piece.
func splitWords(camel string) []string {
	runes := []rune(camel)
	var words []string
	start := 0
	for i := 1; i < len(runes); i++ {
		if !unicode.IsUpper(runes[i]) {
			continue
		}
		afterLower := !unicode.IsUpper(runes[i-1])
		beforeLower := i+1 < len(runes) && !unicode.IsUpper(runes[i+1])
		if afterLower || beforeLower {
			words = append(words, string(runes[start:i]))
			start = i
		}
	}
	return append(words, string(runes[start:]))
}

func isAcronym(word string) bool {
	return len(word) > 1 && strings.ToUpper(word) == word
}
