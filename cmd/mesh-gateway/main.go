// Command mesh-gateway is the REST front door of the Mesh gRPC API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/meshtrade/mesh-gateway/internal/server"
)

// cli is the command line; one file a subcommand.
type cli struct {
	Serve       serveCommand       `cmd:"" help:"Serve the Mesh API over HTTP."`
	Sandbox     sandboxCommand     `cmd:"" help:"Serve the sandbox alone, as a gRPC server for SDKs."`
	Routes      routesCommand      `cmd:"" help:"List every route, its RPC and who may call it."`
	OpenAPI     openAPICommand     `cmd:"" name:"openapi" help:"Print the OpenAPI document."`
	Version     versionCommand     `cmd:"" help:"Print the version, and the release of Go that built it."`
	Healthcheck healthcheckCommand `cmd:"" help:"Exit 0 if a running gateway answers, 1 if not."`
}

// streams are where a command writes: answers to out, the rest to err.
type streams struct{ out, err io.Writer }

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], streams{os.Stdout, os.Stderr}))
}

// untilSignal returns a context that SIGTERM and SIGINT end. The cause of the
// second is server.ErrInterrupted: who presses Ctrl-C does not want to wait for a
// load balancer.
func untilSignal() context.Context {
	terminated, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	interrupted, _ := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithCancelCause(terminated)
	context.AfterFunc(interrupted, func() { cancel(server.ErrInterrupted) })
	return ctx
}

// run returns the exit status: 0, 1 for a failure, 2 for a bad command line. When
// ctx is done, a command that serves ends in order.
func run(ctx context.Context, args []string, std streams) (code int) {
	// kong prints help and then calls Exit, expecting not to come back.
	type exit int
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exit:
			code = int(e)
		default:
			panic(e)
		}
	}()
	parser, err := kong.New(new(cli),
		kong.Name("mesh-gateway"),
		kong.Description("The Mesh trading API over REST: one binary in front of its gRPC services, with a sandbox built in."),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { panic(exit(code)) }),
		kong.DefaultEnvars("MESH_GATEWAY"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(std.err, "mesh-gateway:", err)
		return 1
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(std.err, "mesh-gateway: %s\nRun mesh-gateway --help for what there is.\n", err)
		return 2
	}
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(std)
	if err := command.Run(); err != nil {
		fmt.Fprintln(std.err, "mesh-gateway:", err)
		if usage := (*usageError)(nil); errors.As(err, &usage) {
			return 2
		}
		return 1
	}
	return 0
}

// usageError is a flag's value that only its meaning shows to be bad.
type usageError struct {
	flag string
	err  error
}

func (e *usageError) Error() string { return "--" + e.flag + ": " + e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// buildVersion is the module's version, or the commit it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return "devel-" + setting.Value[:min(12, len(setting.Value))]
		}
	}
	return "devel"
}
