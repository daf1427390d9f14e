package config

import (
	"fmt"
	"strings"
)

// Problem is a setting whose value cannot be used.
type Problem struct {
	// Setting is the name of the flag, without hyphens in front.
	Setting string
	Err     error
}

func (p Problem) Error() string { return "--" + p.Setting + ": " + p.Err.Error() }

// Unwrap returns what is wrong with the value.
func (p Problem) Unwrap() error { return p.Err }

// Problems are all that is wrong with a configuration, at least one.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// add reports a problem of a setting.
func (p *Problems) add(setting, format string, args ...any) {
	*p = append(*p, Problem{setting, fmt.Errorf(format, args...)})
}

// addError reports err as the problem of a setting, unless it is nil.
func (p *Problems) addError(setting string, err error) {
	if err != nil {
		*p = append(*p, Problem{setting, err})
	}
}
