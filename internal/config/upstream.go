package config

import (
	"github.com/meshtrade/mesh-gateway/internal/upstream"
)

// Upstream is the Mesh API, and how it is reached.
type Upstream struct {
	Target      string `name:"upstream" placeholder:"HOST:PORT" help:"Address of the Mesh gRPC API (${production})."`
	Plaintext   bool   `name:"upstream-plaintext" help:"Connect to the address of --upstream without TLS."`
	Connections int    `name:"upstream-connections" placeholder:"N" help:"Number of connections to the Mesh gRPC API (${connections}; 1 with --sandbox)."`
	Credentials string `name:"credentials" placeholder:"auto|PATH" help:"Mesh credentials file. Its API key and group are added to requests that carry none, so --listen must be a loopback address. With auto, the file that the Mesh SDKs use (none)."`

	TLS UpstreamTLS `embed:""`
}

// derive fills in the defaults. The connection to the sandbox, which is in the same process, is not
// lost.
func (u *Upstream) derive(c *Config) {
	if u.Target == "" && !c.Sandbox.Enabled {
		u.Target = upstream.DefaultTarget
	}
	if !c.Given("upstream-connections") {
		u.Connections = upstream.DefaultConnections
		if c.Sandbox.Enabled {
			u.Connections = 1
		}
	}
}

func (u *Upstream) validate(c *Config, p *Problems) {
	u.TLS.validate(c, p)
	switch {
	case c.sandboxUnknown():
	case c.Sandbox.Enabled:
		u.validateSandbox(p)
	case u.Plaintext && u.Target == upstream.DefaultTarget:
		p.add("upstream-plaintext", "needs --upstream: API keys must not be sent to the production API without TLS")
	}
	if u.Target != "" {
		p.addError("upstream", CheckAddress(u.Target))
	}
	if u.Connections < 1 || u.Connections > upstream.MaxConnections {
		p.add("upstream-connections", "must be from 1 to %d, not %d", upstream.MaxConnections, u.Connections)
	}
}

// validateSandbox finds what cannot be used together with the sandbox.
func (u *Upstream) validateSandbox(p *Problems) {
	if u.Target != "" {
		p.add("upstream", "cannot be used together with --sandbox")
	}
	if u.Plaintext {
		p.add("upstream-plaintext", "cannot be used together with --sandbox")
	}
	if u.Credentials != "" {
		p.add("credentials", "cannot be used together with --sandbox: the sandbox has test keys of its own, and does not take yours")
	}
}
