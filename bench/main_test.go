package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseOptions(t *testing.T) {
	for _, test := range []struct {
		name  string
		args  []string
		rows  string
		peers string
		err   string
	}{
		{"by default everything", nil, "", "stock,mesh-gateway,vanguard,floor", ""},
		{"rows, in the order of the tables", []string{"-only", "create; GET"}, "GET;create", "", ""},
		{"a row with a comma in its name", []string{"-only", "list 1,000"}, "list 1,000", "", ""},
		{"stock is always there", []string{"-peers", "floor"}, "", "stock,floor", ""},
		{"an unknown row", []string{"-only", "PUT"}, "", "", `-only: there is no "PUT"`},
		{"an unknown peer", []string{"-peers", "envoy"}, "", "", `-peers: there is no "envoy"`},
		{"one round", []string{"-rounds", "1"}, "", "", "at least 2"},
		{"no requests", []string{"-requests", "0"}, "", "", "at least 1"},
		{"an argument", []string{"GET"}, "", "", `"GET" is not understood`},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, err := parseOptions(test.args)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := names(o.rows, ";"); test.rows != "" && got != test.rows {
				t.Errorf("rows %s, want %s", got, test.rows)
			}
			if got := names(o.peers, ","); test.peers != "" && got != test.peers {
				t.Errorf("peers %s, want %s", got, test.peers)
			}
		})
	}
}

func TestGatewayAnnouncement(t *testing.T) {
	var p process
	var ready []bool
	for _, line := range []string{"Mesh API   http://127.0.0.1:41/v1", "Docs       http://127.0.0.1:41/docs", "Admin      http://127.0.0.1:42", "Upstream   x"} {
		ready = append(ready, gatewayAnnouncement(&p, line))
	}
	if p.address != "127.0.0.1:41" || p.side != "127.0.0.1:42" || !slices.Equal(ready[:3], []bool{false, false, true}) {
		t.Errorf("%q and %q, ready %v", p.address, p.side, ready)
	}
}

func TestAProcessThatEndsAtOnceSaysWhy(t *testing.T) {
	p, err := start(t.TempDir(), "sh", readyAnnouncement, "/bin/sh", "-c", "echo no such flag >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if err := p.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3\nno such flag") {
		t.Errorf("error %v", err)
	}
}

func TestAProcessIsReadyOnceItListensAndEndsWhenStopped(t *testing.T) {
	p, err := start(t.TempDir(), "sh", readyAnnouncement, "/bin/sh", "-c", "echo starting; echo ready 127.0.0.1:1 127.0.0.1:2; exec sleep 600")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.ready(t.Context()); err != nil {
		t.Error(err)
	}
	if p.address != "127.0.0.1:1" || p.side != "127.0.0.1:2" || p.failure() != nil {
		t.Errorf("%q, %q, %v", p.address, p.side, p.failure())
	}
	p.stop()
	if err := p.command.Process.Signal(os.Interrupt); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after its end: %v", err)
	}
}

func TestChildEnvironmentHasNoSettingsOfMeshGateway(t *testing.T) {
	got := childEnvironment([]string{"PATH=/bin", "MESH_GATEWAY_LISTEN=:80", "HOME=/"})
	if !slices.Equal(got, []string{"PATH=/bin", "HOME=/"}) {
		t.Error(got)
	}
}

func newReport() *report {
	r := &report{
		Machine: machine{Commit: "<abc>", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, Requests: 100,
		rows: newRows(), peers: newPeers()[:4], Problems: []string{"floor, GET: broken"},
	}
	for round := 1; round <= 3; round++ {
		for _, p := range r.peers {
			s := sample{Round: round, Row: getRow, Peer: p.name, CPU: 0.001, PeakMemory: 5 << 20}
			if p.name == meshGateway {
				s.CPU = 0.001 * float64(round)
			}
			r.Samples = append(r.Samples, s)
		}
	}
	return r
}

func TestMarkdown(t *testing.T) {
	text := newReport().markdown()
	for _, want := range []string{
		"the median over 3 rounds",
		"| Row | stock, µs | mesh-gateway | vanguard | floor |",
		"| GET | 1,000 (1,000–1,000) | **2.00** (1.00–3.00) | **1.00** (1.00–1.00) | **1.00** (1.00–1.00) |",
		"| search | – | – | – | – |",
		"- floor, GET: broken",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestStorePeers(t *testing.T) {
	for _, test := range []struct{ name, postgres, want string }{
		{"with PostgreSQL", "postgres://", "without a key,memory,file,postgres"},
		{"without", "", "without a key,memory,file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			peers := newStorePeers("dir", test.postgres)
			if got := names(peers, ","); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			for i, p := range peers {
				if p.keyed != (i > 0) || p.store == "" {
					t.Errorf("%+v", p)
				}
			}
		})
	}
}

func TestMarkdownOfStores(t *testing.T) {
	r := &report{Requests: 100, rows: newRows(), peers: newStorePeers("dir", ""), title: "By store"}
	r.Samples = []sample{{Round: 1, Row: keyedRow, Peer: noKey, CPU: 0.001}, {Round: 1, Row: keyedRow, Peer: "file", CPU: 0.003}}
	text := r.markdown()
	for _, want := range []string{
		"## By store\n\nFigures are ratios to “without a key” in the same round",
		"| create with a key | 1,000 (1,000–1,000) | – | **3.00** (3.00–3.00) |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestChartIsWellFormedAndHasABarForEachPeer(t *testing.T) {
	var b bytes.Buffer
	if err := newReport().chart(&b); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(b.String(), "<rect"); got != 2*3 {
		t.Errorf("%d rectangles, want three in the legend and three bars", got)
	}
	decoder := xml.NewDecoder(&b)
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestGrouped(t *testing.T) {
	for _, test := range []struct {
		value    float64
		decimals int
		want     string
	}{{0.126, 2, "0.13"}, {999, 0, "999"}, {1000, 0, "1,000"}, {1234567.8, 2, "1,234,568"}, {-1234, 0, "-1,234"}} {
		if got := grouped(test.value, test.decimals); got != test.want {
			t.Errorf("%v: got %s, want %s", test.value, got, test.want)
		}
	}
}

func TestTickStep(t *testing.T) {
	for _, test := range []struct{ longest, want float64 }{{1, 0.2}, {1.9, 0.5}, {4, 1}, {50, 10}} {
		if got := tickStep(test.longest); got != test.want {
			t.Errorf("%v: got %v, want %v", test.longest, got, test.want)
		}
	}
}

func TestEachRowSendsAKeyOfTheFormThatMeshHas(t *testing.T) {
	if len(apiKey) != 43 {
		t.Errorf("%d characters, want 43", len(apiKey))
	}
}
