package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
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
	limits := flags(t).Serve.Config.Limits
	guide := start(t, "--sandbox").guide(t)
	for _, want := range []string{
		fmt.Sprintf(`RateLimit-Policy: "read";q=%d;w=%d`, limits.RateRead.Requests, limits.RateRead.Period/time.Second),
		fmt.Sprintf("%d streams", limits.MaxKeyStreams),
		fmt.Sprintf("up to %d MiB", limits.MaxBodyBytes>>20),
	} {
		if !strings.Contains(guide, want) {
			t.Errorf("the guide does not contain %q", want)
		}
	}
}

// TestTheGuidesPricesExist asks the sandbox for the price of every pair that the guide names.
func TestTheGuidesPricesExist(t *testing.T) {
	p := start(t, "--sandbox", "--rate-limit-read", "0")
	_, table, _ := strings.Cut(p.guide(t), `id="prices"`)
	codes, quotes := make(map[string][]string), make(map[string]string)
	for _, row := range regexp.MustCompile(`<tr><td>([\w ]+)</td><td>([\w, ]+)</td><td>([\w ]+)</td></tr>`).FindAllStringSubmatch(table, -1) {
		codes[row[1]], quotes[row[1]] = strings.Split(row[2], ", "), row[3]
	}
	if len(codes) != 4 {
		t.Fatalf("tokens = %v", codes)
	}
	for kind, bases := range codes {
		var in, notIn []string
		switch quotes[kind] {
		case "in fiat currencies and in each other":
			in = slices.Concat(codes["Fiat currencies"], bases)
		case "in each other":
			in = bases
		case "in USD and ZAR":
			in, notIn = []string{"USD", "ZAR"}, bases
		case "in ZAR":
			in, notIn = []string{"ZAR"}, bases
		default:
			t.Errorf("%s are priced %s", kind, quotes[kind])
		}
		for _, base := range bases {
			for _, quote := range append(in, base) {
				status, value := p.price(t, base, quote)
				if one := base == quote; status != http.StatusOK || one && value != "1" || !one && value == "" {
					t.Errorf("%s/%s: %d, %q", base, quote, status, value)
				}
			}
			for _, quote := range notIn {
				if status, value := p.price(t, base, quote); base != quote && status != http.StatusNotFound {
					t.Errorf("%s/%s: %d, %q, want 404", base, quote, status, value)
				}
			}
		}
	}
}

// price returns the status and the price of a pair of codes.
func (p *program) price(t *testing.T, base, quote string) (status int, value string) {
	t.Helper()
	response := p.send(t, http.MethodGet, "/v1/market_data/prices:current?baseToken.code="+base+"&quoteToken.code="+quote, "", false)
	defer response.Body.Close()
	var price struct {
		MidPrice struct{ Value string }
	}
	if err := json.NewDecoder(response.Body).Decode(&price); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, price.MidPrice.Value
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
