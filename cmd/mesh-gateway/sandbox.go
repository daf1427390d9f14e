package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
)

// sandboxFlags are the flags that serve and sandbox share.
type sandboxFlags struct {
	SandboxSeed  *uint64       `placeholder:"N" help:"Number to generate the sandbox's names, keys and prices from (random)."`
	SandboxClock sandbox.Clock `placeholder:"CLOCK" help:"How time passes in the sandbox: real, fast (50 times as fast) or manual. With manual it passes only by POST /sandbox:advance?by=5s, a route of serve --sandbox (real)."`
	SandboxFile  string        `placeholder:"PATH" help:"File that keeps the state of the sandbox across restarts (none; state is in memory)."`
}

func (f *sandboxFlags) set() bool {
	return f.SandboxSeed != nil || f.SandboxClock != "" || f.SandboxFile != ""
}

// open starts the sandbox.
func (f *sandboxFlags) open(logger *slog.Logger) (*sandbox.Sandbox, error) {
	options := []sandbox.Option{sandbox.WithLogger(logger)}
	if f.SandboxSeed != nil {
		options = append(options, sandbox.WithSeed(*f.SandboxSeed))
	}
	if f.SandboxClock != "" {
		options = append(options, sandbox.WithClock(f.SandboxClock))
	}
	if f.SandboxFile != "" {
		options = append(options, sandbox.WithFile(f.SandboxFile))
	}
	return sandbox.New(options...)
}

type sandboxCommand struct {
	Listen   string `default:"${sandbox_grpc}" env:"MESH_GATEWAY_SANDBOX_LISTEN" placeholder:"HOST:PORT" help:"Address to serve gRPC on, without TLS (${default})."`
	Describe bool   `env:"-" help:"Print the data that the sandbox starts with, test keys included, and exit."`
	sandboxFlags
}

// Help follows the summary in the command's help.
func (*sandboxCommand) Help() string { return aboutFlags }

// Validate is called by kong once the flags are read.
func (c *sandboxCommand) Validate() error { return checkAddress("listen", c.Listen) }

// Run serves until ctx is done and calls in flight have finished.
func (c *sandboxCommand) Run(ctx context.Context, std streams) (err error) {
	logger := slog.New(slog.NewJSONHandler(std.err, nil))
	mesh, err := c.open(logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mesh.Close()) }()
	if c.Describe {
		return mesh.Describe(std.out)
	}
	s := newServer(ctx, std.err, logger, 0)
	address, err := s.ListenService(c.Listen, mesh.NewServer())
	if err != nil {
		return listenError("listen", c.Listen, err)
	}
	first := sandbox.Seeded()[0]
	fmt.Fprintf(std.out, "Mesh gRPC  %s, without TLS, with health checks and reflection\nKey        %s  (metadata x-api-key)\nGroup      %s  (metadata x-group)\n",
		address, first.APIKey, first.Group)
	return s.Run(ctx)
}
