package gateway

import (
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// faults are what is wrong with a request. They know which fields are faulty already,
// so that a rule does not report a field again.
type faults struct {
	apierror.Violations
	covered map[string]bool
}

// addAt adds a fault of a field of the request message; path is its path from there.
func (f *faults) addAt(path, field, description string) {
	f.cover(path)
	f.Add(field, description)
}

// cover marks a field of the request message as faulty.
func (f *faults) cover(path string) {
	if f.Full() {
		return // rules are not looked at any more
	}
	if f.covered == nil {
		f.covered = make(map[string]bool)
	}
	f.covered[path] = true
}

// covers reports whether a field, or one that it is part of, is faulty already.
func (f *faults) covers(path string) bool {
	if len(f.covered) == 0 {
		return false
	}
	for path != "" {
		if f.covered[path] {
			return true
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return false
}
