package contract

import (
	"slices"
	"strings"
	"sync"
)

// Path holds the routes of one path.
type Path struct {
	bindings []*Binding
	allow    string
}

// Binding returns the route of an HTTP method, or nil if there is none. HEAD has the route of GET
// (RFC 9110, section 9.3.2).
func (p *Path) Binding(verb string) *Binding {
	if verb == "HEAD" {
		verb = "GET"
	}
	for _, binding := range p.bindings {
		if binding.Verb == verb {
			return binding
		}
	}
	return nil
}

// Allow returns the HTTP methods of the path as the value of the Allow header (RFC 9110, section
// 10.2.1).
func (p *Path) Allow() string { return p.allow }

// node is a node of the trie of path segments.
type node struct {
	literals map[string]*node
	variable *node
	// ends are the paths that end at this node, by custom verb: "" for none, "open" for "…:open".
	ends map[string]*Path
}

var routes = sync.OnceValue(func() *node {
	root := new(node)
	for _, method := range Methods() {
		for _, binding := range method.Bindings {
			root.add(binding)
		}
	}
	return root
})

func (n *node) add(binding *Binding) {
	pattern, verb, _ := strings.Cut(binding.pattern, ":")
	for segment := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		n = n.child(segment)
	}
	if n.ends == nil {
		n.ends = make(map[string]*Path)
	}
	path := n.ends[verb]
	if path == nil {
		path = new(Path)
		n.ends[verb] = path
	}
	path.bindings = append(path.bindings, binding)
	path.allow = allow(path.bindings)
}

func (n *node) child(segment string) *node {
	if segment == "*" {
		if n.variable == nil {
			n.variable = new(node)
		}
		return n.variable
	}
	if n.literals == nil {
		n.literals = make(map[string]*node)
	}
	if n.literals[segment] == nil {
		n.literals[segment] = new(node)
	}
	return n.literals[segment]
}

func allow(bindings []*Binding) string {
	var verbs []string
	for _, verb := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		for _, binding := range bindings {
			if verb == binding.Verb || verb == "HEAD" && binding.Verb == "GET" {
				verbs = append(verbs, verb)
			}
		}
	}
	return strings.Join(slices.Compact(verbs), ", ")
}

// Match returns the routes of a path and the value of its variable segment, still escaped. It
// returns nil if the contract does not have the path.
//
// A colon always begins a custom verb (AIP-136): the path "/v1/accounts/X:open" is the method open
// of "accounts/X" and never the account "X:open". "/v1/accounts/X:unknown" is not in the contract.
func Match(path string) (found *Path, segment string) {
	if path == "" || path[0] != '/' {
		return nil, ""
	}
	n, rest, verb := routes(), path[1:], ""
	for last := false; !last; {
		var part string
		if part, rest, last = cutSegment(rest); last {
			var custom bool
			if part, verb, custom = strings.Cut(part, ":"); custom && verb == "" {
				return nil, ""
			}
		}
		next := n.literals[part]
		if next == nil && n.variable != nil && part != "" && strings.IndexByte(part, ':') < 0 {
			next, segment = n.variable, part
		}
		if next == nil {
			return nil, ""
		}
		n = next
	}
	return n.ends[verb], segment
}

func cutSegment(path string) (segment, rest string, last bool) {
	at := strings.IndexByte(path, '/')
	if at < 0 {
		return path, "", true
	}
	return path[:at], path[at+1:], false
}
