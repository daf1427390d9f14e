package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/server"
)

// command runs the program to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	out, err := meshtest.NewTranscript(), meshtest.NewTranscript()
	code = run(t.Context(), args, streams{out, err})
	return code, out.String(), err.String()
}

func TestBadFlags(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want string // in the message
	}{
		{"no such flag", []string{"--no-such"}, "--no-such"},
		{"listen without a port", []string{"--listen", "localhost"}, "--listen"},
		{"admin listen without a port", []string{"--admin-listen", "localhost"}, "--admin-listen"},
		{"upstream without a port", []string{"--upstream", "mesh.example"}, "--upstream"},
		{"rate without a period", []string{"--rate-limit-read", "10"}, "--rate-limit-read"},
		{"rate of nothing", []string{"--rate-limit-write", "0/1m"}, "--rate-limit-write"},
		{"any origin", []string{"--cors-origin", "*"}, "--cors-origin"},
		{"origin with a path", []string{"--cors-origin", "https://app.example.com/x"}, "--cors-origin"},
		{"no proxy", []string{"--trusted-proxy", "my-proxy"}, "--trusted-proxy"},
		{"no body", []string{"--max-body-bytes", "0"}, "--max-body-bytes"},
		{"no memory", []string{"--max-inflight-bytes", "1000"}, "--max-inflight-bytes"},
		{"no streams", []string{"--max-streams", "0"}, "--max-streams"},
		{"no streams of a key", []string{"--max-key-streams", "0"}, "--max-key-streams"},
		{"no such clock", []string{"--sandbox", "--sandbox-clock", "slow"}, "--sandbox-clock"},
		{"a clock without a sandbox", []string{"--sandbox-clock", "fast"}, "--sandbox"},
		{"SDKs without a sandbox", []string{"--sandbox-grpc-listen", "127.0.0.1:0"}, "--sandbox"},
		{"SDKs without a port", []string{"--sandbox", "--sandbox-grpc-listen", "127.0.0.1"}, "--sandbox-grpc-listen"},
		{"a public URL without a scheme", []string{"--public-url", "api.example.com"}, "--public-url"},
		{"no time", []string{"--request-timeout", "0s"}, "--request-timeout"},
		{"a negative delay", []string{"--drain-delay", "-1s"}, "--drain-delay"},
		{"a delay that leaves no time to end", []string{"--drain-delay", "30s"}, "--drain-delay"},
		{"sandbox and upstream", []string{"--sandbox", "--upstream", "mesh.example:443"}, "--upstream"},
		{"sandbox and credentials", []string{"--sandbox", "--credentials", "auto"}, "--credentials"},
		{"credentials for all to use", []string{"--credentials", "auto", "--listen", ":8080"}, "--listen"},
		{"credentials that are not there", []string{"--credentials", "/nonexistent/credentials.json"}, "/nonexistent/credentials.json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, _, stderr := command(t, append([]string{"serve"}, test.args...)...)
			if code != 2 || !strings.Contains(stderr, test.want) {
				t.Errorf("exit status %d, message %q: want 2 and %s", code, stderr, test.want)
			}
		})
	}
}

func TestRoutesListsTheContract(t *testing.T) {
	code, stdout, _ := command(t, "routes")
	if lines := strings.Count(stdout, "\n"); code != 0 || lines != 1+70 {
		t.Errorf("exit status %d, %d lines; want a heading and 70 routes", code, lines)
	}
}

func TestBadFlagsOfOpenAPI(t *testing.T) {
	for flag, value := range map[string]string{"--format": "xml", "--public-url": "api.example.com"} {
		code, stdout, stderr := command(t, "openapi", flag, value)
		if code != 2 || stdout != "" || !strings.Contains(stderr, flag) {
			t.Errorf("%s %s: exit status %d, message %q", flag, value, code, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	if code, stdout, _ := command(t, "version"); code != 0 || !strings.HasPrefix(stdout, "mesh-gateway ") {
		t.Errorf("exit status %d: %s", code, stdout)
	}
}

// TestReasonsAreDocumented looks for each in the document.
func TestReasonsAreDocumented(t *testing.T) {
	_, document, _ := command(t, "openapi")
	for _, reason := range apierror.Reasons() {
		if !strings.Contains(document, "`"+string(reason)+"`") {
			t.Errorf("%s is not", reason)
		}
	}
}

func TestDescribe(t *testing.T) {
	out, errs := meshtest.NewTranscript(), meshtest.NewTranscript()
	if code := run(t.Context(), []string{"sandbox", "--describe"}, streams{out, errs}); code != 0 {
		t.Fatalf("exit status %d: %s", code, errs)
	}
	for _, want := range []string{"Harbour Brokers", "sandbox-broker-admin-key", "NOT_STARTED", "1000001", "COMPLETE", "OPEN", "XLM/USDC"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not described:\n%s", want, out)
		}
	}
}

func TestDrainDelayDefaults(t *testing.T) {
	_, help, _ := command(t, "serve", "--help")
	if help = strings.Join(strings.Fields(help), " "); !strings.Contains(help, "(5s; 0s with --sandbox)") {
		t.Error("the help does not say what the default is")
	}
	for name, test := range map[string]struct {
		flags []string
		want  time.Duration
	}{
		"live":    {nil, 5 * time.Second},
		"sandbox": {[]string{"--sandbox"}, 0},
		"given":   {[]string{"--drain-delay", "0s"}, 0},
	} {
		if got := parseServe(t, test.flags...).Config.Server.DrainDelay; got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// parseServe returns the command `mesh-gateway serve` with the flags.
func parseServe(t *testing.T, flags ...string) *serveCommand {
	t.Helper()
	c := new(cli)
	parser, err := newParser(c, streams{io.Discard, io.Discard}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"serve"}, flags...)); err != nil {
		t.Fatal(err)
	}
	return &c.Serve
}

// TestDrainDelayFitsTheShutdown compares what limits --drain-delay with the limit of the server.
func TestDrainDelayFitsTheShutdown(t *testing.T) {
	if config.ShutdownTimeout != server.ShutdownTimeout {
		t.Errorf("the configuration allows a shutdown of %s, the server one of %s", config.ShutdownTimeout, server.ShutdownTimeout)
	}
}
