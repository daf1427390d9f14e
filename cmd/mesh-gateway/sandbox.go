package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
)

// openSandbox starts the sandbox.
func openSandbox(world config.SandboxWorld, logger *slog.Logger) (*sandbox.Sandbox, error) {
	options := []sandbox.Option{sandbox.WithLogger(logger)}
	if world.Seed != nil {
		options = append(options, sandbox.WithSeed(*world.Seed))
	}
	if world.Clock != "" {
		options = append(options, sandbox.WithClock(world.Clock))
	}
	if world.File != "" {
		options = append(options, sandbox.WithFile(world.File))
	}
	return sandbox.New(options...)
}

type sandboxCommand struct {
	Listen   string `default:"${sandbox_grpc}" env:"MESH_GATEWAY_SANDBOX_LISTEN" placeholder:"HOST:PORT" help:"Address to serve gRPC on, without TLS (${default})."`
	Describe bool   `env:"-" help:"Print the data that the sandbox starts with, test keys included, and exit."`

	World config.SandboxWorld `embed:""`
}

// Help follows the summary in the command's help.
func (*sandboxCommand) Help() string { return aboutFlags }

// Validate is called by kong once the flags are read.
func (c *sandboxCommand) Validate() error {
	if err := config.CheckAddress(c.Listen); err != nil {
		return &usageError{"listen", err}
	}
	return nil
}

// Run serves until ctx is done and calls in flight have finished.
func (c *sandboxCommand) Run(ctx context.Context, std streams) (err error) {
	logger := slog.New(slog.NewJSONHandler(std.err, nil))
	mesh, err := openSandbox(c.World, logger)
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
		return fmt.Errorf("--listen: %w", listenError("listen", c.Listen, err))
	}
	first := sandbox.Seeded()[0]
	fmt.Fprintf(std.out, "Mesh gRPC  %s, without TLS, with health checks and reflection\nKey        %s  (metadata x-api-key)\nGroup      %s  (metadata x-group)\n",
		address, first.APIKey, first.Group)
	return s.Run(ctx)
}
