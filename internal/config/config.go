// Package config is the configuration of the gateway: its settings, their defaults and what makes a
// value invalid. Each section is a struct in a file of its own.
//
// A field is a flag of the command line. Its tags are those of kong: name, default, placeholder and
// help. A new setting is one field, and one line in validate if not every value of its type is valid.
package config

import "github.com/alecthomas/kong"

// Config is the configuration of `mesh-gateway serve`. After kong has parsed it, all values are
// effective: defaults that depend on other settings are filled in.
type Config struct {
	Server      Server      `embed:""`
	TLS         TLS         `embed:""`
	Upstream    Upstream    `embed:""`
	Sandbox     Sandbox     `embed:""`
	CORS        CORS        `embed:""`
	Limits      Limits      `embed:""`
	Redis       Redis       `embed:""`
	Idempotency Idempotency `embed:""`
	Telemetry   Telemetry   `embed:""`

	given map[string]bool
}

// Given reports whether a setting was given a value, even if that is the default.
func (c *Config) Given(name string) bool { return c.given[name] }

// Validate is called by kong once the values are read. It derives the defaults that depend on other
// settings and returns [Problems] if values are invalid.
func (c *Config) Validate(parsed *kong.Context) error {
	c.given = make(map[string]bool)
	for _, flag := range parsed.Flags() {
		c.given[flag.Name] = flag.Set
	}
	c.derive()
	var p Problems
	c.Server.validate(c, &p)
	c.TLS.validate(&p)
	c.Upstream.validate(c, &p)
	c.Sandbox.validate(c, &p)
	c.Limits.validate(&p)
	c.Telemetry.validate(&p)
	if len(p) == 0 {
		return nil
	}
	return p
}

// derive fills in the defaults that depend on other settings.
func (c *Config) derive() {
	c.Server.derive(c)
	c.Upstream.derive(c)
	c.Limits.derive(c)
}
