// Command mesh-gateway is a REST gateway for the Mesh gRPC API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/server"
)

// cli is the command line; one file a subcommand.
type cli struct {
	Serve       serveCommand       `cmd:"" help:"Serve the Mesh API over HTTP."`
	Sandbox     sandboxCommand     `cmd:"" help:"Serve the built-in sandbox over gRPC, for use with a Mesh SDK."`
	Routes      routesCommand      `cmd:"" help:"List every route and the RPC that it calls."`
	OpenAPI     openAPICommand     `cmd:"" name:"openapi" help:"Print the OpenAPI document of a gateway with these flags."`
	Version     versionCommand     `cmd:"" help:"Print the version, and the release of Go that built it."`
	Healthcheck healthcheckCommand `cmd:"" help:"Check a running gateway: exit 0 if it is healthy, 1 if it is not."`
	Store       storeCommand       `cmd:"" help:"Look after the store of idempotency keys."`
	Config      configCommand      `cmd:"" help:"Look at the configuration of a gateway."`
}

// streams are where a command writes: results to out, everything else to err.
type streams struct{ out, err io.Writer }

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], streams{os.Stdout, os.Stderr}))
}

// untilSignal returns a context that SIGTERM and SIGINT end. The cause of the
// second is server.ErrInterrupted, because somebody who presses Ctrl-C does not
// want to wait for a load balancer.
//
// A second SIGINT kills the process. A second SIGTERM does nothing: supervisors
// repeat it, and calls in flight must not be lost to that.
func untilSignal() context.Context {
	terminated, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	interrupted, restoreDefault := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithCancelCause(terminated)
	context.AfterFunc(interrupted, func() {
		restoreDefault()
		cancel(server.ErrInterrupted)
	})
	return ctx
}

// run returns the exit status: 0 for success, 1 for a failure, 2 for a usage
// error. When ctx is done, a command that serves shuts down gracefully.
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
	parser, err := newParser(new(cli), std, func(code int) { panic(exit(code)) })
	if err != nil {
		fmt.Fprintln(std.err, "mesh-gateway:", err)
		return 1
	}
	if len(args) == 0 {
		// Help is what was asked for, as with docker, gh and kubectl. It goes to
		// stdout and the status is 0.
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		var selected *kong.Node
		if parseError := (*kong.ParseError)(nil); errors.As(err, &parseError) && parseError.Context != nil {
			selected = parseError.Context.Selected()
		}
		return reportUsage(std.err, parser.Model, selected, err)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(std)
	err = command.Run()
	var (
		usage    *usageError
		problems config.Problems
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage), errors.As(err, &problems):
		return reportUsage(std.err, parser.Model, command.Selected(), err)
	}
	fmt.Fprintln(std.err, "mesh-gateway:", err)
	return 1
}

func newParser(c *cli, std streams, exit func(code int)) (*kong.Kong, error) {
	return config.NewSources(os.LookupEnv, os.ReadFile).Parser(c,
		kong.Name("mesh-gateway"),
		kong.Description("A REST gateway for the Mesh gRPC API, with a built-in sandbox."),
		kong.Writers(std.out, std.err),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: maxHelpWidth}),
		kong.ValueFormatter(describeFlag),
	)
}

// maxHelpWidth is the longest line of help, in columns. A narrower terminal has
// shorter lines.
const maxHelpWidth = 110

// describeFlag is the help of a flag, followed by the environment variable that
// sets it. kong's own formatter uses parentheses, which are for defaults here.
func describeFlag(flag *kong.Value) string {
	if flag.Flag == nil || len(flag.Flag.Envs) == 0 {
		return flag.Help
	}
	return flag.Help + " [$" + strings.Join(flag.Flag.Envs, ", $") + "]"
}

// aboutFlags explains how a command's help shows its flags.
const aboutFlags = "Defaults are in parentheses. A flag that is followed by a variable in brackets can also be set by that environment variable. Separate the values of a list with commas."

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
