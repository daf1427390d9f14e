package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is a setting whose value cannot be used, or another mistake in the configuration file.
type Problem struct {
	// Setting is the name of the setting, or "" if the mistake is not about one.
	Setting string
	// Source is where the value is from.
	Source Source
	Err    error
}

func (p Problem) Error() string {
	if p.Setting == "" {
		return fmt.Sprintf("%s:%d:%d: %s", p.Source.file, p.Source.line, p.Source.column, p.Err)
	}
	return p.Source.of(p.Setting) + ": " + p.Err.Error()
}

// Unwrap returns what is wrong with the value.
func (p Problem) Unwrap() error { return p.Err }

// Problems are all that is wrong with a configuration, at least one.
type Problems []Problem

// Error lists the problems, one in each line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// add reports a problem of a setting.
func (p *Problems) add(setting, format string, args ...any) {
	p.addError(setting, fmt.Errorf(format, args...))
}

// addError reports err as the problem of a setting, unless it is nil.
func (p *Problems) addError(setting string, err error) {
	if err != nil {
		*p = append(*p, Problem{Setting: setting, Err: err})
	}
}

// about reports whether a problem is about the setting.
func (p Problems) about(setting string) bool {
	return slices.ContainsFunc(p, func(problem Problem) bool { return problem.Setting == setting })
}

// sort puts the mistakes in the file last, in the order of the file.
func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Source.line, b.Source.line), cmp.Compare(a.Source.column, b.Source.column))
	})
}
