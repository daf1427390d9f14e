package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

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

// flags returns the flags of serve with their defaults.
func flags(t *testing.T) *cli {
	t.Helper()
	commands := new(cli)
	parser, err := newParser(commands, streams{io.Discard, io.Discard}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
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
