package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
)

// sandboxFlags say how a sandbox behaves; serve and sandbox share them.
type sandboxFlags struct {
	SandboxSeed  *uint64       `placeholder:"N" help:"Let names, keys and prices of the sandbox follow from this number."`
	SandboxClock sandbox.Clock `placeholder:"CLOCK" help:"How time passes in the sandbox: real, fast, or manual, which POST /sandbox:advance?by=5s moves (real)."`
	SandboxFile  string        `placeholder:"PATH" help:"Keep the sandbox's state in this file across restarts."`
}

func (f *sandboxFlags) set() bool {
	return f.SandboxSeed != nil || f.SandboxClock != "" || f.SandboxFile != ""
}

// open starts the sandbox.
func (f *sandboxFlags) open() (*sandbox.Sandbox, error) {
	var options []sandbox.Option
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
	Listen   string `default:"127.0.0.1:50051" placeholder:"HOST:PORT" help:"Where to serve gRPC, without TLS (${default})."`
	Describe bool   `help:"Print what the sandbox starts with, and exit."`
	sandboxFlags
}

// Run serves until ctx is done and calls in flight have finished.
func (c *sandboxCommand) Run(ctx context.Context, std streams) (err error) {
	mesh, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mesh.Close()) }()
	if c.Describe {
		return mesh.Describe(std.out)
	}
	s := server.New(slog.New(slog.NewJSONHandler(std.err, nil)), 0)
	address, err := s.ListenService(c.Listen, mesh.NewServer())
	if err != nil {
		return err
	}
	first := sandbox.Seeded()[0]
	fmt.Fprintf(std.out, "Mesh gRPC  %s, without TLS; health and reflection are on\nKey        %s  (as x-api-key)\nGroup      %s  (as x-group)\n",
		address, first.APIKey, first.Group)
	return s.Run(ctx)
}
