package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/meshtrade/mesh-gateway/internal/config"
)

// usageError is a bad value of a flag that is found only when the command runs.
type usageError struct {
	flag string
	err  error
}

func (e *usageError) Error() string { return "--" + e.flag + ": " + e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// reportUsage prints a usage error and where to find help, and returns the exit
// status. command is nil if none was recognised.
func reportUsage(out io.Writer, app *kong.Application, command *kong.Node, err error) int {
	path := app.Name
	if command != nil {
		path = command.FullPath()
	}
	if problems := (config.Problems)(nil); errors.As(err, &problems) {
		for _, problem := range problems {
			fmt.Fprintf(out, "mesh-gateway: %s\n", problem)
		}
	} else {
		fmt.Fprintf(out, "mesh-gateway: %s%s\n", err, suggestion(app, command, err))
	}
	fmt.Fprintf(out, "Run \"%s --help\" for usage.\n", path)
	return 2
}

// suggestion completes the message about an unknown flag. kong suggests flags
// that differ in two letters at most; this adds flags of that name of other
// commands, flags that have a word in common with it, and commands of that name.
// It is empty for any other error.
func suggestion(app *kong.Application, command *kong.Node, err error) string {
	// kong's type for this error is not exported.
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag --")
	if !unknown || strings.Contains(name, "did you mean") {
		return ""
	}
	var candidates []string
	for _, other := range app.Children {
		if slices.ContainsFunc(other.Flags, func(flag *kong.Flag) bool { return flag.Name == name }) {
			candidates = append(candidates, other.FullPath()+" --"+name)
		}
	}
	if len(candidates) == 0 && command != nil {
		candidates = similarFlags(command, name)
	}
	if len(candidates) == 0 && slices.ContainsFunc(app.Children, func(other *kong.Node) bool { return other.Name == name }) {
		candidates = []string{app.Name + " " + name}
	}
	for i, candidate := range candidates {
		candidates[i] = fmt.Sprintf("%q", candidate)
	}
	switch len(candidates) {
	case 0:
		return ""
	case 1:
		return ", did you mean " + candidates[0] + "?"
	}
	return ", did you mean one of " + strings.Join(candidates, ", ") + "?"
}

// similarFlags returns the flags of the command that have the most words in
// common with the name, such as --cors-origin and --sandbox-seed for
// --allowed-origin and --seed.
func similarFlags(command *kong.Node, name string) []string {
	words := strings.Split(name, "-")
	type match struct {
		flag   string
		common int
	}
	var matches []match
	for _, flag := range command.Flags {
		common := 0
		for word := range strings.SplitSeq(flag.Name, "-") {
			if slices.Contains(words, word) {
				common++
			}
		}
		if common > 0 {
			matches = append(matches, match{"--" + flag.Name, common})
		}
	}
	slices.SortStableFunc(matches, func(a, b match) int { return cmp.Compare(b.common, a.common) })
	var best []string
	for _, m := range matches {
		if m.common == matches[0].common {
			best = append(best, m.flag)
		}
	}
	return best
}
