package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// Source is where a setting got its value. The zero Source is the default.
type Source struct {
	kind sourceKind
	// variable is the name of the environment variable.
	variable string
	// file, line and column are where the value is in the configuration file.
	file         string
	line, column int
}

type sourceKind int

const (
	fromDefault sourceKind = iota
	fromFlag
	fromEnvironment
	fromFile
)

// String describes the source of a value for `config print`.
func (s Source) String() string {
	switch s.kind {
	case fromFlag:
		return "flag"
	case fromEnvironment:
		return s.variable
	case fromFile:
		return fmt.Sprintf("%s:%d", s.file, s.line)
	default:
		return "default"
	}
}

// of returns the name of a setting as somebody finds it in the source: --NAME, the environment
// variable, or FILE:LINE:COLUMN: NAME.
func (s Source) of(setting string) string {
	switch s.kind {
	case fromEnvironment:
		return s.variable
	case fromFile:
		return fmt.Sprintf("%s:%d:%d: %s", s.file, s.line, s.column, setting)
	default:
		return "--" + setting
	}
}

// Sources are the environment and the configuration file. As a [kong.Resolver] it gives kong the
// value of each flag that is not on the command line: from the environment, or else from the file
// that the flag --config names, if the command has that flag.
//
// kong stops at the first error. Sources collects what is wrong, and [Config.Validate] reports it
// together with what the checks find. Commands without a Config get it from kong.
type Sources struct {
	lookupEnv func(string) (string, bool)
	readFile  func(string) ([]byte, error)

	opened bool
	// path is that of the file, or empty.
	path     string
	content  []byte
	file     *file
	known    []string
	values   map[string]Source
	problems Problems
}

// NewSources returns sources for one run of a parser. lookupEnv is os.LookupEnv and readFile is
// os.ReadFile, except in tests.
func NewSources(lookupEnv func(string) (string, bool), readFile func(string) ([]byte, error)) *Sources {
	return &Sources{lookupEnv: lookupEnv, readFile: readFile, values: make(map[string]Source)}
}

const variablePrefix = "MESH_GATEWAY"

// Parser returns a parser of the grammar whose values are from the command line and the sources.
// Each flag has an environment variable, its name in capitals after "MESH_GATEWAY_".
func (s *Sources) Parser(grammar any, options ...kong.Option) (*kong.Kong, error) {
	parser, err := kong.New(grammar, append(options, Vars(), kong.DefaultEnvars(variablePrefix), kong.Resolvers(s), kong.Bind(s))...)
	if err != nil {
		return nil, err
	}
	// kong must not read the environment itself: its values from there would come after those of a
	// resolver, and its errors repeat them, even if they are secrets. The names of the variables
	// stay in flag.Envs.
	return parser, kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			flag.Tag.Envs = nil
		}
		return next(nil)
	})
}

// Resolve implements [kong.Resolver].
func (s *Sources) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	s.open(ctx)
	for _, variable := range flag.Envs {
		if value, ok := s.lookupEnv(variable); ok {
			return s.use(flag, value, Source{kind: fromEnvironment, variable: variable}), nil
		}
	}
	if s.file == nil || flag.Name == fileFlag {
		return nil, nil
	}
	entry, ok := s.file.entries[flag.Name]
	if !ok {
		return nil, nil
	}
	value, source, err := entry.value(s.path, flag)
	if err != nil {
		s.refuse(flag.Name, source, err)
		return nil, nil
	}
	return s.use(flag, value, source), nil
}

// use returns the value if the flag takes it, and otherwise reports it.
func (s *Sources) use(flag *kong.Flag, value string, source Source) any {
	if err := check(flag, value); err != nil {
		s.refuse(flag.Name, source, err)
		return nil
	}
	s.values[flag.Name] = source
	return value
}

func (s *Sources) refuse(setting string, source Source, err error) {
	// The value was meant to be this one, so checks of other settings know that there is one.
	s.values[setting] = source
	s.problems = append(s.problems, Problem{Setting: setting, Source: source, Err: err})
}

// check returns an error if the flag does not take the value.
func check(flag *kong.Flag, value string) error {
	defer func(set bool) { flag.Set = set }(flag.Set) // it is not set yet
	into := newTarget(flag)
	if err := flag.Parse(kong.Scan().PushTyped(value, kong.FlagValueToken), into); err != nil {
		// kong begins with the name of the flag, which is not where this value is from.
		if inner := errors.Unwrap(err); inner != nil {
			return inner
		}
		return err
	}
	if flag.Enum != "" && !flag.EnumMap()[fmt.Sprint(into.Interface())] {
		return fmt.Errorf("must be one of %s, not %q", strings.Join(flag.EnumSlice(), ", "), into.Interface())
	}
	return nil
}

// Validate implements [kong.Resolver]. It returns what is wrong with the sources.
func (s *Sources) Validate(*kong.Application) error {
	if len(s.problems) > 0 {
		return s.problems
	}
	return nil
}

// source returns where a setting got its value. Flags are those on the command line.
func (s *Sources) source(ctx *kong.Context, setting string) Source {
	for _, path := range ctx.Path {
		if path.Flag != nil && path.Flag.Name == setting && !path.Resolved {
			return Source{kind: fromFlag}
		}
	}
	return s.values[setting]
}
