package config

import (
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
)

// Sandbox is the built-in sandbox.
type Sandbox struct {
	Enabled    bool   `name:"sandbox" help:"Use the built-in sandbox instead of the live API. No Mesh account is needed."`
	GRPCListen string `name:"sandbox-grpc-listen" placeholder:"HOST:PORT" help:"Address to serve the sandbox on over gRPC as well, without TLS, such as ${sandbox_grpc} (none)."`

	World SandboxWorld `embed:""`
}

// SandboxWorld is what a sandbox starts with and how it runs. `mesh-gateway sandbox` has it too.
type SandboxWorld struct {
	Seed  *uint64       `name:"sandbox-seed" placeholder:"N" help:"Number to generate the sandbox's names, keys and prices from (random)."`
	Clock sandbox.Clock `name:"sandbox-clock" placeholder:"CLOCK" help:"How time passes in the sandbox: real, fast (50 times as fast) or manual. With manual it passes only by POST /sandbox:advance?by=5s, a route of serve --sandbox (real)."`
	File  string        `name:"sandbox-file" placeholder:"PATH" help:"File that keeps the state of the sandbox across restarts (none; state is in memory)."`
}

func (s *Sandbox) validate(c *Config, p *Problems) {
	if !s.Enabled && !c.sandboxUnknown() {
		for _, name := range []string{"sandbox-grpc-listen", "sandbox-seed", "sandbox-clock", "sandbox-file"} {
			if c.Given(name) {
				p.add(name, "is only for the sandbox; it needs --sandbox")
			}
		}
	}
	if s.GRPCListen != "" {
		p.addError("sandbox-grpc-listen", CheckAddress(s.GRPCListen))
	}
}
