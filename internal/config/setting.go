package config

import (
	"encoding"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
)

// Setting is a setting of a [Config] with the source of its value.
type Setting struct {
	Name string
	// Section is the heading that the setting is listed under.
	Section string
	// Variable is the environment variable.
	Variable string
	// Help has the default in parentheses at its end, unless the setting is a switch.
	Help string
	// Switch is set if the setting is either on or, by default, off.
	Switch bool
	// Live is set if a new value is used without a restart.
	Live   bool
	Source Source

	value reflect.Value
}

func newSetting(flag *kong.Flag, source Source) Setting {
	section := ""
	if flag.Group != nil {
		section = flag.Group.Title
	}
	return Setting{
		Name: flag.Name, Section: section, Variable: flag.Envs[0], Help: flag.Help, Switch: flag.IsBool(), Live: flag.Tag.Has("live"), Source: source, value: flag.Target,
	}
}

// Settings returns all settings, in the order of the sections.
func (c *Config) Settings() []Setting { return c.settings }

// Vars are the variables in the help of settings.
func Vars() kong.Vars {
	return kong.Vars{
		"production": upstream.DefaultTarget, "connections": strconv.Itoa(upstream.DefaultConnections), "sandbox_grpc": sandbox.DefaultListen,
	}
}

// set reports whether there is a value to speak of: one that was given, or a default.
func (s *Setting) set() bool {
	if s.Source.kind != fromDefault {
		return true
	}
	switch s.Value() {
	case "", "''", "[]":
		return false
	}
	return true
}

// node is the value in YAML, without passwords. hidden reports whether there was one.
func (s *Setting) node() (_ *yaml.Node, hidden bool) {
	if s.value.Kind() != reflect.Slice {
		return scalar(s.value)
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for i := range s.value.Len() {
		item, secret := scalar(s.value.Index(i))
		list.Content = append(list.Content, item)
		hidden = hidden || secret
	}
	return list, hidden
}

func scalar(v reflect.Value) (_ *yaml.Node, hidden bool) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, false
		}
		v = v.Elem()
	}
	plain := false
	text := ""
	switch value := v.Interface().(type) {
	case interface{ Redacted() string }:
		text = value.Redacted()
	case time.Duration:
		text = shortDuration(value)
	case encoding.TextMarshaler:
		content, err := value.MarshalText()
		if err != nil {
			content = []byte(err.Error())
		}
		text = string(content)
	case fmt.Stringer:
		text = value.String()
	default:
		text, plain = fmt.Sprint(value), v.Kind() != reflect.String
	}
	node := &yaml.Node{Kind: yaml.ScalarNode}
	redacted := redact(text)
	if !plain {
		node.SetString(redacted)
	} else {
		node.Value = redacted
	}
	return node, redacted != text || strings.Contains(text, hiddenPassword)
}

// shortDuration is 1m instead of 1m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// hiddenPassword is what [url.URL.Redacted] puts in the place of a password.
const hiddenPassword = ":xxxxx@"

// redact hides the password of a URL. Settings with a type of their own hide it themselves; this is
// for those that are strings.
func redact(text string) string {
	if u, err := url.Parse(text); err == nil && u.User != nil && u.Host != "" {
		return u.Redacted()
	}
	return text
}

// Print writes the effective values as a configuration file, with the source of each in a comment.
// Passwords are hidden.
func (c *Config) Print(out io.Writer) error {
	var b strings.Builder
	section := ""
	for i := range c.settings {
		s := &c.settings[i]
		if s.Name == fileFlag {
			if c.File.Path != "" {
				fmt.Fprintf(&b, "# The file is %s (%s).\n", c.File.Path, s.Source)
			}
			continue
		}
		if s.Section != section {
			section = s.Section
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "# %s\n", section)
		}
		if !s.set() {
			fmt.Fprintf(&b, "# %s is not set.\n", s.Name)
			continue
		}
		node, hidden := s.node()
		value, err := yaml.Dump(node, yaml.WithLineWidth(-1))
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		comment := s.Source.String()
		if hidden {
			comment += "; the password is hidden"
		}
		fmt.Fprintf(&b, "%-40s # %s\n", s.Name+": "+strings.TrimSpace(string(value)), comment)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// Change is a setting that differs between two configurations.
type Change struct {
	Setting
	// From and To are the values, without passwords.
	From, To string
}

// Changes returns the settings that differ.
func Changes(from, to *Config) (changes []Change) {
	for i := range to.settings {
		old, changed := &from.settings[i], &to.settings[i]
		if reflect.DeepEqual(old.value.Interface(), changed.value.Interface()) {
			continue
		}
		changes = append(changes, Change{Setting: *changed, From: old.Value(), To: changed.Value()})
	}
	return changes
}

// Value is the effective value in YAML, without passwords.
func (s *Setting) Value() string {
	node, _ := s.node()
	value, err := yaml.Dump(node, yaml.WithLineWidth(-1))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(value))
}
