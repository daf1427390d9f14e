package main

import (
	"bytes"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/meshtrade/mesh-gateway/internal/config"
)

// ran is how a run of the program ended.
type ran struct {
	status         int
	stdout, stderr string
}

// runToEnd runs the program with the arguments until it returns.
func runToEnd(t *testing.T, args ...string) ran {
	t.Helper()
	var out, err bytes.Buffer
	status := run(t.Context(), args, streams{&out, &err})
	return ran{status, out.String(), err.String()}
}

func TestNoCommandPrintsHelp(t *testing.T) {
	got := runToEnd(t)
	if want := runToEnd(t, "--help"); got != want {
		t.Errorf("%+v, want what --help prints: %+v", got, want)
	}
	if got.status != 0 || got.stderr != "" || !strings.Contains(got.stdout, "\nCommands:\n") {
		t.Errorf("%+v", got)
	}
}

// TestUsageErrors lists what the caller can put right on the command line or in
// the environment: exit status 2, the reason, and where the help is.
func TestUsageErrors(t *testing.T) {
	const (
		program     = `Run "mesh-gateway --help" for usage.`
		serve       = `Run "mesh-gateway serve --help" for usage.`
		sandbox     = `Run "mesh-gateway sandbox --help" for usage.`
		openapi     = `Run "mesh-gateway openapi --help" for usage.`
		healthcheck = `Run "mesh-gateway healthcheck --help" for usage.`
	)
	for _, test := range []struct {
		name, args, reason, help string
	}{
		{"unknown command", "serv", `unexpected argument serv, did you mean "serve"?`, program},
		{"flag without a command", "--no-such", "unknown flag --no-such", program},
		{"flag before its command", "--describe sandbox", `unknown flag --describe, did you mean "mesh-gateway sandbox --describe"?`, program},
		{"flag that is a command", "--version", `unknown flag --version, did you mean "mesh-gateway version"?`, program},
		{"unexpected argument", "serve 8080", "unexpected argument 8080", serve},
		{"unknown flag, nothing like it", "serve --frobnicate", "unknown flag --frobnicate\n", serve},
		{"unknown flag, a letter off", "serve --listne :80", `unknown flag --listne, did you mean "--listen"?`, serve},
		{"unknown flag, a word in common", "serve --allowed-origin x", `unknown flag --allowed-origin, did you mean "--cors-origin"?`, serve},
		{"unknown flag, most words in common", "serve --sandbox-grpc-address x", `did you mean "--sandbox-grpc-listen"?`, serve},
		{"unknown flag of another command", "serve --describe", `did you mean "mesh-gateway sandbox --describe"?`, serve},
		{"missing value", "serve --upstream", "--upstream", serve},
		{"not a number", "serve --max-streams many", "--max-streams", serve},
		{"not a duration", "serve --request-timeout 10", "--request-timeout", serve},
		{"number out of range", "serve --max-streams 0", "--max-streams: must be at least 1, not 0", serve},
		{"an unknown admission", "serve --admission on", `--admission: "on" is neither adaptive nor off`, serve},
		{"no connections", "serve --upstream-connections 0", "--upstream-connections: must be from 1 to 64, not 0", serve},
		{"too many connections", "serve --sandbox --upstream-connections 65", "--upstream-connections: must be from 1 to 64, not 65", serve},
		{"connections below zero", "serve --max-connections=-1", "--max-connections: must be at least 0, not -1", serve},
		{"connections of an address below zero", "serve --max-address-connections=-1", "--max-address-connections: must be at least 0, not -1", serve},
		{"Redis without a scheme", "serve --redis localhost:6379", "not the URL of a Redis", serve},
		{"no such thing to do without Redis", "serve --redis-unavailable wait", `"wait" is not one of local, allow and refuse`, serve},
		{"not a rate of failures", "serve --rate-limit-failures many", "--rate-limit-failures", serve},
		{"duration out of range", "serve --drain-delay 30s", "--drain-delay: must be", serve},
		{"address without a port", "serve --listen localhost", `--listen: "localhost" is not HOST:PORT: missing port in address`, serve},
		{"address with an empty port", "serve --admin-listen localhost:", `--admin-listen: "localhost:" is not HOST:PORT: missing port`, serve},
		{"port out of range", "serve --listen :65536", `--listen: ":65536" is not HOST:PORT: the port must be from 0 to 65535`, serve},
		{"upstream without a host", "serve --upstream :443", "--upstream:", serve},
		{"flags that exclude each other", "serve --sandbox --upstream mesh.example:443", "--upstream: cannot be used together with --sandbox", serve},
		{"flag that needs another", "serve --sandbox-seed 1", "--sandbox-seed: is only for the sandbox; it needs --sandbox", serve},
		{"production without TLS", "serve --upstream-plaintext", "--upstream-plaintext: needs --upstream", serve},
		{"a certificate without its key", "serve --tls-cert /c", "--tls-cert: needs --tls-key", serve},
		{"a key without its certificate", "serve --tls-key /k", "--tls-key: needs --tls-cert", serve},
		{"two certificates", "serve --tls-self-signed --tls-cert /c --tls-key /k", "--tls-self-signed: cannot be used together with --tls-cert", serve},
		{"certificates of clients without TLS", "serve --tls-client-ca /ca", "--tls-client-ca: needs --tls-cert and --tls-key", serve},
		{"certificates of clients, self-signed", "serve --tls-client-ca /ca --tls-self-signed", "--tls-client-ca: needs --tls-cert and --tls-key", serve},
		{"h2c with TLS", "serve --h2c --tls-self-signed", "--h2c: cannot be used together with TLS", serve},
		{"an upstream certificate without its key", "serve --upstream-cert /c", "--upstream-cert: needs --upstream-key", serve},
		{"authorities of a plaintext upstream", "serve --upstream a:1 --upstream-plaintext --upstream-ca /ca", "--upstream-ca: cannot be used together with --upstream-plaintext", serve},
		{"authorities of the sandbox", "serve --sandbox --upstream-ca /ca", "--upstream-ca: cannot be used together with --sandbox", serve},
		{"a server name with a port", "serve --upstream-server-name mesh.example:443", `--upstream-server-name: "mesh.example:443" is not a host name`, serve},
		{"credentials file that does not exist", "serve --credentials /nonexistent/mesh.json", "--credentials: ", serve},
		{"credentials on all interfaces", "serve --credentials auto --listen :8080", "is not a loopback address", serve},
		{"sandbox address without a port", "sandbox --listen localhost", `--listen: "localhost" is not HOST:PORT`, sandbox},
		{"no such clock", "sandbox --sandbox-clock slow", "--sandbox-clock", sandbox},
		{"no such format", "openapi --format xml", "--format must be one of", openapi},
		{"public URL without a scheme", "openapi --public-url api.example.com", "--public-url: ", openapi},
		{"health of an invalid URL", "healthcheck --url localhost", `--url: "localhost" is not an HTTP URL`, healthcheck},
		{"authorities without TLS", "healthcheck --ca /ca", "--ca: needs a --url that begins with https://", healthcheck},
		{"no time for an answer", "healthcheck --timeout 0s", "--timeout must be more than 0s", healthcheck},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := runToEnd(t, strings.Fields(test.args)...)
			if got.status != 2 || got.stdout != "" {
				t.Errorf("exit status %d, stdout %q, want 2 and nothing", got.status, got.stdout)
			}
			if !strings.HasPrefix(got.stderr, "mesh-gateway: ") || !strings.Contains(got.stderr, test.reason) {
				t.Errorf("stderr %q does not say %q", got.stderr, test.reason)
			}
			if !strings.HasSuffix(got.stderr, "\n"+test.help+"\n") {
				t.Errorf("stderr %q does not end in %s", got.stderr, test.help)
			}
		})
	}
}

// TestFailures lists what the command line is not to blame for: exit status 1.
func TestFailures(t *testing.T) {
	taken := takenAddress(t)
	host, _, _ := net.SplitHostPort(taken)
	inUse := func(flag string) string {
		return "mesh-gateway: --" + flag + ": cannot listen on " + taken + ", which is in use; pass another address, such as --" +
			flag + " " + host + ":0 for a free port\n"
	}
	for _, test := range []struct {
		name, args, want string
	}{
		{"API address in use", "serve --sandbox --admin-listen= --listen " + taken, inUse("listen")},
		{"admin address in use", "serve --sandbox --listen 127.0.0.1:0 --admin-listen " + taken, inUse("admin-listen")},
		{"admin address in use, live", "serve --listen 127.0.0.1:0 --admin-listen " + taken, inUse("admin-listen")},
		{"gRPC address in use", "serve --sandbox --listen 127.0.0.1:0 --admin-listen= --sandbox-grpc-listen " + taken, inUse("sandbox-grpc-listen")},
		{"sandbox address in use", "sandbox --listen " + taken, inUse("listen")},
		{"file that cannot be opened", "sandbox --sandbox-file /nonexistent/file", "mesh-gateway: --sandbox-file /nonexistent/file: "},
		{"certificate that does not exist", "serve --sandbox --tls-cert /nonexistent/c --tls-key /nonexistent/k", "mesh-gateway: --tls-cert: /nonexistent/c: no such file or directory\n--tls-key: /nonexistent/k: no such file or directory\n"},
		{"upstream authorities that are none", "serve --upstream-ca main.go", "mesh-gateway: --upstream-ca: main.go: no certificate found"},
		{"authorities of a health check that do not exist", "healthcheck --url https://127.0.0.1:1/ --ca /nonexistent/ca", "mesh-gateway: --ca: /nonexistent/ca: no such file or directory\n"},
		{"no gateway", "healthcheck --url http://" + refusedAddress(t) + "/healthz", "mesh-gateway: unhealthy: "},
		{"no answer", "healthcheck --timeout 50ms --url http://" + taken + "/healthz", "mesh-gateway: unhealthy: no answer from http://" + taken + "/healthz within 50ms\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := runToEnd(t, strings.Fields(test.args)...)
			if got.status != 1 || got.stdout != "" {
				t.Errorf("exit status %d, stdout %q, want 1 and nothing", got.status, got.stdout)
			}
			if !strings.HasPrefix(got.stderr, test.want) {
				t.Errorf("stderr %q, want %q", got.stderr, test.want)
			}
		})
	}
}

// takenAddress returns an address that is in use and where nothing is answered.
func takenAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

// refusedAddress returns an address where nobody listens any more.
func refusedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	return listener.Addr().String()
}

// commands returns the parser's model of every command, by name.
func commands(t *testing.T) map[string]*kong.Node {
	t.Helper()
	parser, err := newParser(new(cli), streams{new(bytes.Buffer), new(bytes.Buffer)}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*kong.Node)
	for _, command := range parser.Model.Children {
		all[command.Name] = command
	}
	if len(all) < 6 {
		t.Fatalf("only %d commands", len(all))
	}
	return all
}

// TestVariablesHaveOneMeaning allows flags of two commands to share a variable
// only if they are the same flag.
func TestVariablesHaveOneMeaning(t *testing.T) {
	type meaning struct {
		flag, help string
		value      reflect.Type
	}
	meanings := make(map[string]meaning)
	for name, command := range commands(t) {
		for _, flag := range command.Flags {
			for _, variable := range flag.Envs {
				this := meaning{flag.Name, flag.Help, flag.Target.Type()}
				if !strings.HasPrefix(variable, "MESH_GATEWAY_") {
					t.Errorf("%s --%s is set by %s", name, flag.Name, variable)
				}
				if other, shared := meanings[variable]; shared && other != this {
					t.Errorf("%s means %+v and %+v", variable, this, other)
				}
				meanings[variable] = this
			}
		}
	}
	for variable, flag := range map[string]string{
		"MESH_GATEWAY_LISTEN":         "listen",
		"MESH_GATEWAY_SANDBOX_LISTEN": "listen",
		"MESH_GATEWAY_CORS_ORIGIN":    "cors-origin",
	} {
		if meanings[variable].flag != flag {
			t.Errorf("%s sets %q, want %q", variable, meanings[variable].flag, flag)
		}
	}
}

func TestFlagsFromTheEnvironment(t *testing.T) {
	for _, test := range []struct {
		name, variable, value string
		args                  string
		got                   func(*cli) any
		want                  any
	}{
		{"boolean true", "MESH_GATEWAY_SANDBOX", "true", "serve", func(c *cli) any { return c.Serve.Config.Sandbox.Enabled }, true},
		{"boolean 1", "MESH_GATEWAY_SANDBOX", "1", "serve", func(c *cli) any { return c.Serve.Config.Sandbox.Enabled }, true},
		{"boolean false", "MESH_GATEWAY_SANDBOX", "false", "serve", func(c *cli) any { return c.Serve.Config.Sandbox.Enabled }, false},
		{"list", "MESH_GATEWAY_CORS_ORIGIN", "https://a.example,https://b.example", "serve", func(c *cli) any { return c.Serve.Config.CORS.Origins }, []config.Origin{"https://a.example", "https://b.example"}},
		{"list, replaced by the flag", "MESH_GATEWAY_CORS_ORIGIN", "https://a.example", "serve --cors-origin https://b.example", func(c *cli) any { return c.Serve.Config.CORS.Origins }, []config.Origin{"https://b.example"}},
		{"duration", "MESH_GATEWAY_REQUEST_TIMEOUT", "90s", "serve", func(c *cli) any { return c.Serve.Config.Limits.RequestTimeout }, 90 * time.Second},
		{"optional duration", "MESH_GATEWAY_DRAIN_DELAY", "0s", "serve", func(c *cli) any { return c.Serve.Config.Server.DrainDelay }, time.Duration(0)},
		{"rate", "MESH_GATEWAY_RATE_LIMIT_READ", "0", "serve", func(c *cli) any { return c.Serve.Config.Limits.RateRead.Requests }, 0},
		{"empty address", "MESH_GATEWAY_ADMIN_LISTEN", "", "serve", func(c *cli) any { return c.Serve.Config.Server.AdminListen }, ""},
		{"address of serve", "MESH_GATEWAY_LISTEN", ":80", "serve", func(c *cli) any { return c.Serve.Config.Server.Listen }, ":80"},
		{"address of serve, not of sandbox", "MESH_GATEWAY_LISTEN", ":80", "sandbox", func(c *cli) any { return c.Sandbox.Listen }, "127.0.0.1:50051"},
		{"address of sandbox", "MESH_GATEWAY_SANDBOX_LISTEN", ":80", "sandbox", func(c *cli) any { return c.Sandbox.Listen }, ":80"},
		{"address of sandbox, not of serve", "MESH_GATEWAY_SANDBOX_LISTEN", ":80", "serve", func(c *cli) any { return c.Serve.Config.Server.Listen }, ":8080"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(test.variable, test.value)
			c := new(cli)
			parser, err := newParser(c, streams{new(bytes.Buffer), new(bytes.Buffer)}, func(int) {})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(strings.Fields(test.args)); err != nil {
				t.Fatal(err)
			}
			if got := test.got(c); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%#v, want %#v", got, test.want)
			}
		})
	}
	t.Run("a bad value names the variable", func(t *testing.T) {
		t.Setenv("MESH_GATEWAY_SANDBOX", "maybe")
		if got := runToEnd(t, "serve"); got.status != 2 || !strings.Contains(got.stderr, "MESH_GATEWAY_SANDBOX") {
			t.Errorf("%+v", got)
		}
	})
}

// TestHelp holds the help of every command to what readers rely on: it fits a
// wide terminal, and each flag shows its default and its variable.
func TestHelp(t *testing.T) {
	t.Setenv("COLUMNS", "300")
	all := commands(t)
	names := []string{""}
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.Run("mesh-gateway "+name, func(t *testing.T) {
			got := runToEnd(t, append(strings.Fields(name), "--help")...)
			if got.status != 0 || got.stderr != "" {
				t.Fatalf("%+v", got)
			}
			for line := range strings.Lines(got.stdout) {
				if len(line) > 120 {
					t.Errorf("%d columns: %s", len(line)-1, line)
				}
			}
			if name == "" {
				return
			}
			for _, flag := range all[name].Flags {
				if flag.Name == "help" {
					continue
				}
				if !flag.IsBool() && !strings.HasSuffix(flag.Help, ").") {
					t.Errorf("--%s does not show its default at the end: %s", flag.Name, flag.Help)
				}
				if flag.HasDefault && !strings.HasSuffix(flag.Help, "("+flag.Default+").") {
					t.Errorf("--%s has the default %s: %s", flag.Name, flag.Default, flag.Help)
				}
				if len(flag.Envs) > 0 && !strings.Contains(got.stdout, "[$"+flag.Envs[0]+"]") {
					t.Errorf("--%s does not show $%s", flag.Name, flag.Envs[0])
				}
			}
		})
	}
	for flag, want := range map[string]string{"listen": parseServe(t).Config.Server.Listen, "admin-listen": config.DefaultAdminListen} {
		at := slices.IndexFunc(all["serve"].Flags, func(f *kong.Flag) bool { return f.Name == flag })
		if help := all["serve"].Flags[at].Help; !strings.Contains(help, "("+want+"; ") {
			t.Errorf("--%s is %s by default, and its help says: %s", flag, want, help)
		}
	}
}

func TestStartUpNamesTheCredentials(t *testing.T) {
	const key = "developer-key-of-43-characters-000000000000"
	file := filepath.Join(t.TempDir(), "credentials.json")
	writeFile(t, file, `{"api_key": "`+key+`", "group_id": "groups/00000000000000000000BR0KER"}`)
	p := runUntilStopped(t, "serve", "--credentials", file, "--listen", "127.0.0.1:0", "--admin-listen", "", "--drain-delay", "0s")
	p.stdout.Wait(t, "  curl ")
	text := p.stdout.String()
	if !strings.Contains(text, "Key        from "+file) || !strings.Contains(text, "Group      groups/00000000000000000000BR0KER\n") {
		t.Errorf("%s", text)
	}
	if strings.Contains(text, key) {
		t.Errorf("the key is printed:\n%s", text)
	}
}
