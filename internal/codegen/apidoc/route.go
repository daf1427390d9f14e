package apidoc

import (
	"fmt"
	"path"
	"strings"
	"unicode"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// route is the path of an operation in OpenAPI.
type route struct {
	// path has a variable that is named after the resource, so that all operations on a
	// resource share one path item: "/v1/groups/{group}".
	path string
	// parameter is the name of the variable segment: "group". It is empty if the path has no
	// variable, or if the segment is the whole value of a field. In the latter case, the
	// parameter has the name of the field.
	parameter string
	// collection is the part of the field value before the segment: "groups/". It is empty if
	// parameter is empty.
	collection string
}

func routeOf(binding *contract.Binding) (route, error) {
	value := binding.PathValue("*")
	if value == "" || value == "*" {
		return route{path: binding.Pattern("{" + binding.PathField + "}")}, nil
	}
	collection, ok := strings.CutSuffix(value, "/*")
	if !ok {
		return route{}, fmt.Errorf("template %s: want {field=collection/*}", binding.Template)
	}
	parameter := singular(path.Base(collection))
	return route{path: binding.Pattern("{" + parameter + "}"), parameter: parameter, collection: collection + "/"}, nil
}

// singular returns the English singular of the name of a collection.
func singular(plural string) string {
	if stem, ok := strings.CutSuffix(plural, "ies"); ok {
		return stem + "y"
	}
	return strings.TrimSuffix(plural, "s")
}

// tagName returns the tag of a service: "API users" for APIUserService.
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

// splitWords splits CamelCase into words. Acronyms stay in one piece.
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
