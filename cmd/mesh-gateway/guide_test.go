package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestTheGuideSaysWhereTheSandboxIs reads the addresses for SDKs in the guide of a running program.
func TestTheGuideSaysWhereTheSandboxIs(t *testing.T) {
	for _, test := range []struct {
		name  string
		flags []string
		want  func(*program) string
	}{
		{"with gRPC", []string{"--sandbox-grpc-listen", "127.0.0.1:0"}, func(p *program) string {
			return "also serves gRPC, at <code>" + strings.TrimSuffix(strings.Fields(p.stdout.Wait(t, "gRPC"))[1], ",") + "</code>"
		}},
		{"with gRPC on all addresses", []string{"--sandbox-grpc-listen", ":0"}, func(*program) string {
			return "also serves gRPC, at <code>localhost:"
		}},
		{"without", nil, func(*program) string {
			return "over gRPC at <code>" + flags(t).Sandbox.Listen + "</code>"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, append([]string{"--sandbox"}, test.flags...)...)
			if guide, want := p.guide(t), test.want(p); !strings.Contains(guide, want) {
				t.Errorf("the guide does not contain %q", want)
			}
		})
	}
}

// TestTheGuideHasTheDefaults compares the limits in the guide with those of the flags.
func TestTheGuideHasTheDefaults(t *testing.T) {
	serve := flags(t).Serve
	guide := start(t, "--sandbox").guide(t)
	for _, want := range []string{
		fmt.Sprintf(`RateLimit-Policy: "read";q=%d;w=%d`, serve.RateLimitRead.Requests, serve.RateLimitRead.Period/time.Second),
		fmt.Sprintf("%d streams", serve.MaxKeyStreams),
		fmt.Sprintf("up to %d MiB", serve.MaxBodyBytes>>20),
	} {
		if !strings.Contains(guide, want) {
			t.Errorf("the guide does not contain %q", want)
		}
	}
}

// flags returns the flags of all commands with their defaults.
func flags(t *testing.T) *cli {
	t.Helper()
	commands := new(cli)
	parser, err := newParser(commands, streams{io.Discard, io.Discard}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"serve", "sandbox"} {
		if _, err := parser.Parse([]string{command}); err != nil {
			t.Fatal(err)
		}
	}
	return commands
}

// guide returns the guide that the program serves, as HTML.
func (p *program) guide(t *testing.T) string {
	t.Helper()
	response := p.send(t, http.MethodGet, "/docs/guide", "", true)
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", response.Status, err)
	}
	return string(page)
}
