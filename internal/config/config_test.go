package config_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/meshtrade/mesh-gateway/internal/config"
)

// program is a command line with the settings, as cmd/mesh-gateway has it.
type program struct {
	Serve struct {
		Config config.Config `embed:""`
	} `cmd:""`
	Other struct {
		File  config.File `embed:""`
		Store string      `name:"store"`
	} `cmd:""`
}

// inputs are where values come from.
type inputs struct {
	args string
	env  map[string]string
	file string
}

// parse reads the configuration. The file is called gateway.yaml.
func (in inputs) parse(t *testing.T) (*config.Config, error) {
	t.Helper()
	p, err := in.parseProgram(t, "serve")
	return &p.Serve.Config, err
}

func (in inputs) parseProgram(t *testing.T, command string) (*program, error) {
	t.Helper()
	lookup := func(name string) (string, bool) {
		value, ok := in.env[name]
		return value, ok
	}
	read := func(path string) ([]byte, error) {
		if path != "gateway.yaml" {
			return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
		}
		return []byte(in.file), nil
	}
	args := append([]string{command}, strings.Fields(in.args)...)
	if in.file != "" {
		args = append(args, "--config", "gateway.yaml")
	}
	p := new(program)
	parser, err := config.NewSources(lookup, read).Parser(p, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return p, err
}

// mustParse wants a configuration without mistakes.
func (in inputs) mustParse(t *testing.T) *config.Config {
	t.Helper()
	c, err := in.parse(t)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPrecedence(t *testing.T) {
	const name = "MESH_GATEWAY_MAX_STREAMS"
	for _, test := range []struct {
		name   string
		inputs inputs
		want   int
		source string
	}{
		{"default", inputs{}, 5000, "default"},
		{"file", inputs{file: "max-streams: 1\n"}, 1, "gateway.yaml:1"},
		{"environment over file", inputs{file: "max-streams: 1\n", env: map[string]string{name: "2"}}, 2, name},
		{"flag over environment and file", inputs{file: "max-streams: 1\n", env: map[string]string{name: "2"}, args: "--max-streams 3"}, 3, "flag"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.inputs.mustParse(t)
			if c.Limits.MaxStreams != test.want {
				t.Errorf("%d, want %d", c.Limits.MaxStreams, test.want)
			}
			for _, s := range c.Settings() {
				if s.Name == "max-streams" && s.Source.String() != test.source {
					t.Errorf("the source is %s, want %s", s.Source, test.source)
				}
			}
		})
	}
}

func TestFileOfTheEnvironment(t *testing.T) {
	in := inputs{env: map[string]string{"MESH_GATEWAY_CONFIG": "missing.yaml"}}
	_, err := in.parse(t)
	if want := "MESH_GATEWAY_CONFIG: missing.yaml: file does not exist"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestFile(t *testing.T) {
	for _, test := range []struct {
		name, file string
		got        func(*config.Config) any
		want       any
	}{
		{"empty", "\n", func(c *config.Config) any { return c.Limits.MaxStreams }, 5000},
		{"only comments", "# nothing\n", func(c *config.Config) any { return c.Limits.MaxStreams }, 5000},
		{"string", "listen: :8443\n", func(c *config.Config) any { return c.Server.Listen }, ":8443"},
		{"number", "max-body-bytes: 1_024\n", func(c *config.Config) any { return c.Limits.MaxBodyBytes }, int64(1024)},
		{"switch", "sandbox: true\n", func(c *config.Config) any { return c.Sandbox.Enabled }, true},
		{"duration", "request-timeout: 1m30s\n", func(c *config.Config) any { return c.Limits.RequestTimeout }, 90 * time.Second},
		{"empty string is a value", "admin-listen: ''\n", func(c *config.Config) any { return c.Server.AdminListen }, ""},
		{"list", "cors-origin:\n- https://a.example\n- https://b.example\n", func(c *config.Config) any { return c.CORS.Origins }, []config.Origin{"https://a.example", "https://b.example"}},
		{"list in one line", "cors-origin: [https://a.example]\n", func(c *config.Config) any { return c.CORS.Origins }, []config.Origin{"https://a.example"}},
		{"one value for a list", "cors-origin: https://a.example\n", func(c *config.Config) any { return c.CORS.Origins }, []config.Origin{"https://a.example"}},
		{"empty list", "cors-origin: []\n", func(c *config.Config) any { return len(c.CORS.Origins) }, 0},
		{"anchor", "max-streams: &n 7\nmax-key-streams: *n\n", func(c *config.Config) any { return c.Limits.MaxKeyStreams }, 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.got(inputs{file: test.file}.mustParse(t)); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%#v, want %#v", got, test.want)
			}
		})
	}
}

// TestMistakes lists mistakes and how each is reported, with its place.
func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		name   string
		inputs inputs
		want   []string // the beginning of each problem, in this order
	}{
		{"flag", inputs{args: "--max-streams 0"}, []string{"--max-streams: must be at least 1"}},
		{"environment", inputs{env: map[string]string{"MESH_GATEWAY_MAX_STREAMS": "0"}}, []string{"MESH_GATEWAY_MAX_STREAMS: must be at least 1"}},
		{"environment, not a number", inputs{env: map[string]string{"MESH_GATEWAY_MAX_STREAMS": "many"}}, []string{"MESH_GATEWAY_MAX_STREAMS: expected a valid"}},
		{"environment, not one of them", inputs{env: map[string]string{"MESH_GATEWAY_LOG_LEVEL": "loud"}}, []string{"MESH_GATEWAY_LOG_LEVEL: must be one of debug, info, warn, error"}},
		{"file", inputs{file: "\n  \nmax-streams:   0\n"}, []string{"gateway.yaml:3:16: max-streams: must be at least 1"}},
		{"file, not a rate", inputs{file: "rate-limit-read: 10\n"}, []string{"gateway.yaml:1:18: rate-limit-read: \"10\" is not a rate"}},
		{"item of a list", inputs{file: "cors-origin:\n- https://a.example\n- '*'\n"}, []string{"gateway.yaml:3:3: cors-origin: the origin \"*\" contains a wildcard"}},
		{"unknown key", inputs{file: "frobnicate: 1\n"}, []string{"gateway.yaml:1:1: frobnicate: there is no such setting"}},
		{"misspelt key", inputs{file: "max_streams: 1\nrate-limits-read: 0\nlog-leevl: info\n"}, []string{
			"gateway.yaml:1:1: max_streams: there is no such setting; did you mean max-streams?",
			"gateway.yaml:2:1: rate-limits-read: there is no such setting; did you mean rate-limit-read?",
			"gateway.yaml:3:1: log-leevl: there is no such setting; did you mean log-level?",
		}},
		{"the file in the file", inputs{file: "config: other.yaml\n"}, []string{"gateway.yaml:1:1: config: there is no such setting"}},
		{"the help in the file", inputs{file: "help: true\n"}, []string{"gateway.yaml:1:1: help: there is no such setting"}},
		{"repeated key", inputs{file: "max-streams: 1\nmax-streams: 2\n"}, []string{"gateway.yaml:2:1: max-streams: is set twice, first in line 1"}},
		{"no value", inputs{file: "max-streams:\n"}, []string{"gateway.yaml:1:1: max-streams: has no value"}},
		{"list for one value", inputs{file: "max-streams: [1]\n"}, []string{"gateway.yaml:1:14: max-streams: must be one value, not a list"}},
		{"mapping", inputs{file: "max-streams:\n  a: 1\n"}, []string{"gateway.yaml:2:3: max-streams: must be a value, not a mapping"}},
		{"list in a list", inputs{file: "cors-origin: [[a]]\n"}, []string{"gateway.yaml:1:15: cors-origin: each item of the list must be a value"}},
		{"not settings", inputs{file: "- 1\n"}, []string{"gateway.yaml:1:1: the file must have a setting on each line"}},
		{"not YAML", inputs{file: "max-streams: 1\nlisten: [1\n"}, []string{"gateway.yaml:3:1: did not find expected ',' or ']' while parsing a flow sequence, which begins in line 2"}},
		{"two documents", inputs{file: "max-streams: 1\n---\nmax-streams: 2\n"}, []string{"gateway.yaml:1:1: the file must be one document"}},
		{"settings that exclude each other", inputs{file: "upstream: mesh.example:443\n", args: "--sandbox"}, []string{"gateway.yaml:1:11: upstream: cannot be used together with --sandbox"}},
		{"all at once", inputs{
			file: "max-streams: 0\nnothing: 1\nmax-body-bytes: many\ndrain-delay: 30s\n", args: "--max-key-streams 0",
			env: map[string]string{"MESH_GATEWAY_REQUEST_TIMEOUT": "0s", "MESH_GATEWAY_SANDBOX": "maybe", "MESH_GATEWAY_SANDBOX_SEED": "1"},
		}, []string{
			"MESH_GATEWAY_SANDBOX: bool value must be",
			"--max-key-streams: must be at least 1",
			"MESH_GATEWAY_REQUEST_TIMEOUT: must be more than 0s",
			"gateway.yaml:1:14: max-streams: must be at least 1",
			"gateway.yaml:2:1: nothing: there is no such setting",
			"gateway.yaml:3:17: max-body-bytes: expected a valid",
			"gateway.yaml:4:14: drain-delay: must be at least 0s",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.inputs.parse(t)
			var got config.Problems
			if !errors.As(err, &got) {
				t.Fatalf("%v", err)
			}
			for i, want := range test.want {
				if i >= len(got) || !strings.HasPrefix(got[i].Error(), want) {
					t.Errorf("problem %d is not %q", i, want)
				}
			}
			if t.Failed() || len(got) != len(test.want) {
				t.Errorf("problems:\n%s", got)
			}
		})
	}
}

// TestSecretsStaySecret looks for a password wherever the configuration is shown.
func TestSecretsStaySecret(t *testing.T) {
	const password = "hunter2"
	store := "postgres://gateway:" + password + "@db.example/keys?sslpassword=" + password
	t.Run("print", func(t *testing.T) {
		text := printed(t, inputs{file: "store: " + store + "\n"}.mustParse(t))
		if strings.Contains(text, password) || !strings.Contains(text, "store: postgres://gateway:xxxxx@db.example/keys") || !strings.Contains(text, "# gateway.yaml:1; the password is hidden") {
			t.Errorf("%s", text)
		}
	})
	t.Run("print a string", func(t *testing.T) {
		text := printed(t, inputs{args: "--sandbox --sandbox-file postgres://gateway:" + password + "@db.example/keys"}.mustParse(t))
		if strings.Contains(text, password) || !strings.Contains(text, "gateway:xxxxx@db.example") {
			t.Errorf("%s", text)
		}
	})
	t.Run("changes", func(t *testing.T) {
		changes := config.Changes(inputs{}.mustParse(t), inputs{file: "store: " + store + "\n"}.mustParse(t))
		if len(changes) != 2 || changes[1].Name != "store" || strings.Contains(changes[1].To, password) {
			t.Errorf("%+v", changes)
		}
	})
	for name, in := range map[string]inputs{
		"environment": {env: map[string]string{"MESH_GATEWAY_STORE": "postgres://gateway:" + password + "@db.example:x/keys"}},
		"file":        {file: "store: postgres://gateway:" + password + "@db.example:x/keys\n"},
	} {
		t.Run("an error of the "+name, func(t *testing.T) {
			if _, err := in.parse(t); err == nil || strings.Contains(err.Error(), password) {
				t.Errorf("%v", err)
			}
		})
	}
}

func printed(t *testing.T, c *config.Config) string {
	t.Helper()
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestPrintIsAFile reads what Print has written, and wants the same configuration.
func TestPrintIsAFile(t *testing.T) {
	for name, in := range map[string]inputs{
		"defaults": {},
		"sandbox":  {args: "--sandbox --sandbox-seed 7 --sandbox-clock fast --sandbox-grpc-listen :0"},
		"no admin": {args: "--admin-listen="},
		"lists":    {args: "--cors-origin https://a.example,https://b.example --trusted-proxy 10.0.0.0/8,::1"},
		"rates":    {args: "--rate-limit-read 0 --rate-limit-write 10/s"},
		"local":    {args: "--credentials auto"},
	} {
		t.Run(name, func(t *testing.T) {
			first := in.mustParse(t)
			text := printed(t, first)
			again := inputs{file: text}.mustParse(t)
			again.File.Path = first.File.Path
			if changes := config.Changes(first, again); len(changes) > 0 {
				t.Errorf("%+v\n%s", changes, text)
			}
		})
	}
}

func TestPrintNamesTheSources(t *testing.T) {
	text := printed(t, inputs{file: "\nmax-streams: 1\n", env: map[string]string{"MESH_GATEWAY_SANDBOX": "1"}, args: "--max-key-streams 2"}.mustParse(t))
	for setting, source := range map[string]string{
		"max-streams: 1":         "gateway.yaml:2",
		"sandbox: true":          "MESH_GATEWAY_SANDBOX",
		"max-key-streams: 2":     "flag",
		"listen: 127.0.0.1:8080": "default",
		"drain-delay: 0s":        "default",
	} {
		found := false
		for line := range strings.Lines(text) {
			value, comment, _ := strings.Cut(line, "#")
			found = found || strings.TrimSpace(value) == setting && strings.TrimSpace(comment) == source
		}
		if !found {
			t.Errorf("no line %s # %s in\n%s", setting, source, text)
		}
	}
}

func TestDerivedDefaults(t *testing.T) {
	type defaults struct {
		listen, admin, upstream string
		delay                   time.Duration
		connections             int
	}
	const mesh = "production-service-mesh-api-gateway-lb-frontend.mesh.trade:443"
	for name, test := range map[string]struct {
		inputs inputs
		want   defaults
	}{
		"live":        {inputs{}, defaults{":8080", "127.0.0.1:9090", mesh, 5 * time.Second, 2}},
		"sandbox":     {inputs{args: "--sandbox"}, defaults{"127.0.0.1:8080", "127.0.0.1:9090", "", 0, 1}},
		"credentials": {inputs{args: "--credentials auto"}, defaults{"127.0.0.1:8080", "127.0.0.1:9090", mesh, 5 * time.Second, 2}},
		"given":       {inputs{args: "--sandbox --listen :1 --admin-listen= --drain-delay 1s --upstream-connections 3"}, defaults{":1", "", "", time.Second, 3}},
		"empty":       {inputs{env: map[string]string{"MESH_GATEWAY_LISTEN": "", "MESH_GATEWAY_UPSTREAM": ""}}, defaults{":8080", "127.0.0.1:9090", mesh, 5 * time.Second, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			c := test.inputs.mustParse(t)
			got := defaults{c.Server.Listen, c.Server.AdminListen, c.Upstream.Target, c.Server.DrainDelay, c.Upstream.Connections}
			if got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// TestOtherCommands reads the file for a command that shares one setting with serve.
func TestOtherCommands(t *testing.T) {
	in := inputs{file: "max-streams: 1\nstore: file:keys.db\n"}
	p, err := in.parseProgram(t, "other")
	if err != nil || p.Other.Store != "file:keys.db" {
		t.Errorf("%q, %v", p.Other.Store, err)
	}
	in.file = "stroe: file:keys.db\n"
	if _, err := in.parseProgram(t, "other"); err == nil || !strings.Contains(err.Error(), "gateway.yaml:1:1: stroe: there is no such setting; did you mean store?") {
		t.Errorf("%v", err)
	}
}

func TestChanges(t *testing.T) {
	before := inputs{file: "max-streams: 1\ncors-origin: [https://a.example]\n"}.mustParse(t)
	after := inputs{file: "max-streams: 2\ncors-origin: [https://b.example]\nlisten: :1\n"}.mustParse(t)
	var got []string
	for _, change := range config.Changes(before, after) {
		live := ""
		if change.Live {
			live = ", live"
		}
		got = append(got, change.Name+": "+change.From+" -> "+change.To+live)
	}
	want := []string{"listen: :8080 -> :1", "cors-origin: ['https://a.example'] -> ['https://b.example'], live", "max-streams: 1 -> 2, live"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestExampleIsValid reads the example of a configuration file.
func TestExampleIsValid(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	inputs{file: string(content)}.mustParse(t)
}
