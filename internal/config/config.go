// Package config is the configuration of the gateway: its settings, their defaults, where their
// values come from, and what makes a value invalid. Each section is a struct in a file of its own.
//
// A setting is a field, which kong makes a flag of. Its tags are those of kong (name, default,
// placeholder, help, enum), and live for a setting that can change while the gateway serves. The
// environment variable, the key in the configuration file and the line in docs/configuration.md
// follow from the name. So a new setting takes
//
//  1. a field in a section,
//  2. a line in the section's validate, if not every value of its type is valid, and in its derive,
//     if the default depends on other settings,
//  3. if it is live, a line where cmd/mesh-gateway applies a new configuration,
//  4. go test ./internal/config -update, which writes the reference.
//
// A value comes from the command line, or else from the environment, the file or the default, in
// this order ([Sources]).
package config

import (
	"github.com/alecthomas/kong"
)

// Config is the configuration of `mesh-gateway serve`. After kong has parsed it, all values are
// effective: defaults that depend on other settings are filled in.
type Config struct {
	File        File        `embed:"" group:"Configuration"`
	Server      Server      `embed:"" group:"Server"`
	TLS         TLS         `embed:"" group:"TLS"`
	Upstream    Upstream    `embed:"" group:"Mesh"`
	Sandbox     Sandbox     `embed:"" group:"Sandbox"`
	CORS        CORS        `embed:"" group:"Browsers"`
	Limits      Limits      `embed:"" group:"Limits"`
	Redis       Redis       `embed:"" group:"Redis"`
	Access      Access      `embed:"" group:"Access"`
	Idempotency Idempotency `embed:"" group:"Idempotency"`
	Telemetry   Telemetry   `embed:"" group:"Telemetry"`

	sources  *Sources
	settings []Setting
}

// BeforeResolve is called by kong.
func (c *Config) BeforeResolve(sources *Sources) error {
	c.sources = sources
	return nil
}

// Given reports whether a setting was given a value, even if that is the default.
func (c *Config) Given(name string) bool { return c.source(name).kind != fromDefault }

// Problem returns err as a problem of a setting, which names the source of its value. It is for
// mistakes that show when the value is used.
func (c *Config) Problem(name string, err error) Problem {
	return Problem{Setting: name, Source: c.source(name), Err: err}
}

// Name is the name of a setting as somebody finds it where its value is from, such as --listen or
// MESH_GATEWAY_LISTEN.
func (c *Config) Name(setting string) string { return c.source(setting).of(setting) }

// Reloads reports whether the configuration can change while the gateway serves: whether there is a
// file of settings or of certificates.
func (c *Config) Reloads() bool {
	return c.File.Path != "" || c.TLS.Cert != "" || c.Upstream.TLS.Enabled()
}

// Content is what the configuration file contained when it was read, or nil if there is none.
func (c *Config) Content() []byte {
	if c.sources == nil {
		return nil // the command line was refused before
	}
	return c.sources.content
}

func (c *Config) source(name string) Source {
	for i := range c.settings {
		if c.settings[i].Name == name {
			return c.settings[i].Source
		}
	}
	return Source{}
}

// Validate is called by kong once the values are read. It derives the defaults that depend on other
// settings and returns [Problems], all that is wrong with the sources and with the values.
func (c *Config) Validate(parsed *kong.Context) error {
	c.settings = nil
	for _, flag := range parsed.Selected().Flags {
		if len(flag.Envs) > 0 {
			c.settings = append(c.settings, newSetting(flag, c.sources.source(parsed, flag.Name)))
		}
	}
	c.Server.derive(c)
	c.Upstream.derive(c)
	c.Limits.derive(c)

	var found Problems
	c.Server.validate(c, &found)
	c.TLS.validate(&found)
	c.Upstream.validate(c, &found)
	c.Sandbox.validate(c, &found)
	c.Limits.validate(&found)
	c.Access.validate(&found)
	c.Telemetry.validate(&found)

	all := c.sources.problems
	for _, problem := range found {
		// A value that could not be read has been reported. What is in its place is the default.
		if !c.sources.problems.about(problem.Setting) {
			all = append(all, c.Problem(problem.Setting, problem.Err))
		}
	}
	if len(all) == 0 {
		return nil
	}
	all.sort()
	return all
}

// sandboxUnknown reports whether the value of --sandbox could not be read, so that what goes with it
// cannot be checked.
func (c *Config) sandboxUnknown() bool { return c.sources.problems.about("sandbox") }
