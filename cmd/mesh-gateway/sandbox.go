package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
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

// Run serves until ctx ends.
func (c *sandboxCommand) Run(ctx context.Context, std streams) (err error) {
	mesh, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mesh.Close()) }()
	if c.Describe {
		return mesh.Describe(std.out)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", c.Listen, err)
	}
	first := sandbox.Seeded()[0]
	fmt.Fprintf(std.out, "Mesh gRPC  %s, without TLS; health and reflection are on\nKey        %s  (as x-api-key)\nGroup      %s  (as x-group)\n",
		listener.Addr(), first.APIKey, first.Group)
	return serveSandbox(ctx, mesh, listener)
}

// serveSandbox serves the sandbox's gRPC clients until ctx ends.
func serveSandbox(ctx context.Context, mesh *sandbox.Sandbox, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = mesh.Close() }) // its error is told by the Close that follows
	defer stop()
	return mesh.Serve(listener)
}
