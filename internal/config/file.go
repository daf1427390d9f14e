package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"

	"github.com/meshtrade/mesh-gateway/internal/spelling"
)

// fileFlag is the flag that names the configuration file. It cannot be in the file itself.
const fileFlag = "config"

// File is the flag for the configuration file. Commands that share a setting with `serve` have it
// too.
//
// The file is YAML (1.2). Its keys are the names of the flags of `serve`, without sections: a name
// is the same on the command line, in the environment, in the file, in messages and in the
// reference, and can be searched for. Lists are sequences.
type File struct {
	Path string `name:"config" placeholder:"PATH" help:"YAML file with settings, named like the flags. Flags and environment variables come before it. It is read again when it changes, and on SIGHUP (none)."`
}

// file is the content of a configuration file.
type file struct{ entries map[string]entry }

// entry is a key of the file with its value.
type entry struct{ key, node *yaml.Node }

// open reads the file that the command line or the environment names.
func (s *Sources) open(ctx *kong.Context) {
	if s.opened {
		return
	}
	s.opened = true
	for _, flag := range ctx.Flags() {
		if flag.Name != fileFlag {
			continue
		}
		s.path, _ = ctx.FlagValue(flag).(string)
		if s.path == "" {
			for _, variable := range flag.Envs {
				s.path, _ = s.lookupEnv(variable)
			}
		}
		if s.path != "" {
			s.read(ctx.Model.Node, s.source(ctx, fileFlag))
		}
		return
	}
}

// read reads the file. Which keys it may have does not depend on the command: it is those of serve.
func (s *Sources) read(program *kong.Node, named Source) {
	for _, command := range program.Children {
		if command.Name == "serve" {
			program = command
		}
	}
	for _, flag := range program.Flags {
		if isSetting(flag) {
			s.known = append(s.known, flag.Name)
		}
	}
	content, err := s.readFile(s.path)
	if err != nil {
		// Without the path, which an os.PathError repeats.
		if pathError := (*os.PathError)(nil); errors.As(err, &pathError) {
			err = fmt.Errorf("%s: %w", s.path, pathError.Err)
		}
		if named.kind == fromDefault {
			named = Source{kind: fromEnvironment, variable: variablePrefix + "_CONFIG"}
		}
		s.problems = append(s.problems, Problem{Setting: fileFlag, Source: named, Err: err})
		return
	}
	s.content = content
	s.parse()
}

// isSetting reports whether a flag of serve can be in the file.
func isSetting(flag *kong.Flag) bool { return len(flag.Envs) > 0 && flag.Name != fileFlag }

// parse fills in the entries of the file, and reports keys that are unknown or repeated.
func (s *Sources) parse() {
	s.file = &file{entries: make(map[string]entry)}
	document, err := s.document()
	if err != nil {
		s.problems = append(s.problems, s.syntaxError(err))
		return
	}
	if document == nil || len(document.Content) == 0 {
		return // only comments
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return
	}
	if root.Kind != yaml.MappingNode {
		s.report(root, "", errors.New("the file must have a setting on each line, such as max-streams: 5000"))
		return
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		name := key.Value
		if key.Kind != yaml.ScalarNode || name == "" {
			s.report(key, "", errors.New("a key must be the name of a setting"))
			continue
		}
		if !slices.Contains(s.known, name) {
			s.report(key, name, unknownKey(name, s.known))
			continue
		}
		if first, repeated := s.file.entries[name]; repeated {
			s.report(key, name, fmt.Errorf("is set twice, first in line %d", first.key.Line))
			continue
		}
		s.file.entries[name] = entry{key, value}
	}
}

// document returns the one document of the file, or nil if there is none.
func (s *Sources) document() (*yaml.Node, error) {
	// Duplicate keys are found later, together with other mistakes.
	loader, err := yaml.NewLoader(bytes.NewReader(s.content), yaml.WithUniqueKeys(false))
	if err != nil {
		return nil, err
	}
	document := new(yaml.Node)
	switch err := loader.Load(document); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if second := new(yaml.Node); !errors.Is(loader.Load(second), io.EOF) {
		return nil, errors.New("the file must be one document; remove the line --- in the middle of it")
	}
	return document, nil
}

// syntaxError is the problem of a file that is not YAML.
func (s *Sources) syntaxError(err error) Problem {
	problem := Problem{Source: Source{kind: fromFile, file: s.path, line: 1, column: 1}, Err: err}
	if syntax := (*yaml.LoadError)(nil); errors.As(err, &syntax) {
		problem.Source.line, problem.Source.column = syntax.Mark.Line, syntax.Mark.Column
		problem.Err = errors.New(syntax.Message)
		if syntax.ContextMark.Line > 0 {
			problem.Err = fmt.Errorf("%s %s, which begins in line %d", syntax.Message, syntax.ContextMsg, syntax.ContextMark.Line)
		}
	}
	return problem
}

func (s *Sources) report(node *yaml.Node, setting string, err error) {
	s.problems = append(s.problems, Problem{Setting: setting, Source: s.at(node), Err: err})
}

// at is the place of a node.
func (s *Sources) at(node *yaml.Node) Source { return placeOf(s.path, node) }

func placeOf(path string, node *yaml.Node) Source {
	return Source{kind: fromFile, file: path, line: node.Line, column: node.Column}
}

// value returns the value for a flag, as it would be on the command line, and its place.
func (e entry) value(path string, flag *kong.Flag) (string, Source, error) {
	node := resolveAlias(e.node)
	source := placeOf(path, e.node)
	switch node.Kind {
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return "", placeOf(path, e.key), errors.New("has no value")
		}
		if flag.IsSlice() {
			return escape(node.Value), source, nil
		}
		return node.Value, source, nil
	case yaml.SequenceNode:
		if !flag.IsSlice() {
			return "", source, errors.New("must be one value, not a list")
		}
		values := make([]string, 0, len(node.Content))
		for _, item := range node.Content {
			if item = resolveAlias(item); item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
				return "", placeOf(path, item), errors.New("each item of the list must be a value")
			}
			values = append(values, escape(item.Value))
			if err := check(flag, values[len(values)-1]); err != nil {
				return "", placeOf(path, item), err
			}
		}
		return strings.Join(values, ","), placeOf(path, e.key), nil
	default:
		return "", source, errors.New("must be a value, not a mapping")
	}
}

// escape escapes an item of a list, which kong splits at commas.
func escape(item string) string { return strings.ReplaceAll(item, ",", `\,`) }

func resolveAlias(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// unknownKey is the error for a key that is no setting, with the setting that was meant.
func unknownKey(name string, known []string) error {
	if nearest := nearest(name, known); nearest != "" {
		return fmt.Errorf("there is no such setting; did you mean %s?", nearest)
	}
	return errors.New("there is no such setting")
}

// newTarget is a place for a value of the flag.
func newTarget(flag *kong.Flag) reflect.Value {
	into := reflect.New(flag.Target.Type()).Elem()
	if into.Kind() == reflect.Slice {
		into.Set(reflect.MakeSlice(into.Type(), 0, 0))
	}
	return into
}

// nearest returns the name that differs from name in the fewest letters, or "" if all differ much.
func nearest(name string, names []string) (best string) {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	// A third of the letters may differ, and two in any case, which a swap of neighbours does.
	limit := max(len(name)/3, 2) + 1
	for _, candidate := range names {
		if d := spelling.Distance(name, candidate); d < limit {
			best, limit = candidate, d
		}
	}
	if best == "" && name != "" {
		// max-body is short for max-body-bytes.
		for _, candidate := range names {
			if strings.HasPrefix(candidate, name) || strings.HasSuffix(candidate, name) {
				return candidate
			}
		}
	}
	return best
}
