package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
)

// TestMain fails if a program that has ended leaves goroutines behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestServe runs the program with the sandbox and makes a call of each kind. The
// module e2e tests the built program in full.
func TestServe(t *testing.T) {
	p := start(t, "--sandbox", "--sandbox-clock", "manual")
	for _, test := range []struct {
		name, method, path, body string
		anonymous                bool
		status                   int
		want                     string // in the answer
	}{
		{"a read", "GET", "/v1/groups", "", false, http.StatusOK, "Harbour Brokers"},
		{"a write", "POST", "/v1/groups", `{"owner": "groups/00000000000000000000BR0KER", "displayName": "New"}`, false, http.StatusOK, `"displayName":"New"`},
		{"a request that breaks a rule", "POST", "/v1/groups", `{"owner": "me", "displayName": "New"}`, false, http.StatusBadRequest, "INVALID_REQUEST"},
		{"a request without a key", "GET", "/v1/groups", "", true, http.StatusUnauthorized, "CREDENTIALS_MISSING"},
		{"a stream that ends", "GET", "/v1/limit_orders/00000000000000000000000001:monitor", "", false, http.StatusOK, "LIMIT_ORDER_STATE_COMPLETE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			response := p.send(t, test.method, test.path, test.body, test.anonymous)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			// ProtoJSON varies in its spaces.
			if compact := strings.ReplaceAll(string(body), `": "`, `":"`); response.StatusCode != test.status || !strings.Contains(compact, test.want) {
				t.Errorf("%d %s, want %d with %s", response.StatusCode, body, test.status, test.want)
			}
		})
	}
	t.Run("a stream that is open at the end", func(t *testing.T) {
		response := p.send(t, "GET", "/v1/limit_orders/00000000000000000000000006:monitor", "", false)
		defer response.Body.Close()
		lines := bufio.NewReader(response.Body)
		if first, err := lines.ReadString('\n'); err != nil || !strings.Contains(first, "LIMIT_ORDER_STATE_OPEN") {
			t.Fatalf("the first line is %q, %v", first, err)
		}
		p.stop(nil)
		if last, err := io.ReadAll(lines); err != nil || !strings.Contains(string(last), "DRAINING") {
			t.Errorf("the stream ends with %q, %v", last, err)
		}
	})
}

// TestMetrics fetches the metrics as Prometheus does: from the admin listener, which alone has them.
func TestMetrics(t *testing.T) {
	p := start(t, "--sandbox", "--admin-listen", "127.0.0.1:0")
	public := p.send(t, "GET", "/metrics", "", true)
	defer public.Body.Close()
	if public.StatusCode != http.StatusNotFound {
		t.Errorf("the public listener has /metrics: %s", public.Status)
	}

	body := p.admin(t, "/metrics")
	for _, want := range []string{
		`mesh_gateway_build_info{goversion="` + runtime.Version() + `",version="` + buildVersion() + `"} 1`,
		`mesh_gateway_requests_total{code="OK",rpc="/meshtrade.iam.group.v1.GroupService/GetGroup",status="200"} 0`,
		"go_goroutines ",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no line %s in\n%s", want, body)
		}
	}
}

func TestUpstreamConnections(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	live := []string{"--upstream", mesh.Target, "--upstream-plaintext"}
	for _, test := range []struct {
		name  string
		flags []string
		want  int
	}{
		{"by default", live, upstream.DefaultConnections},
		{"as many as asked for", append(live, "--upstream-connections", "3"), 3},
		{"one to the sandbox", []string{"--sandbox"}, 1},
		{"to the sandbox as many as asked for", []string{"--sandbox", "--upstream-connections", "2"}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, append(test.flags, "--admin-listen", "127.0.0.1:0")...)
			// One connection is enough to be ready. The others connect at the same time.
			p.admin(t, "/readyz")
			want := fmt.Sprintf("mesh_gateway_upstream_connections{state=%q} %d\n", "ready", test.want)
			deadline := time.Now().Add(10 * time.Second)
			for metrics := ""; !strings.Contains(metrics, want); time.Sleep(time.Millisecond) {
				if metrics = p.admin(t, "/metrics"); time.Now().After(deadline) {
					t.Fatalf("no line %sin\n%s", want, metrics)
				}
			}
		})
	}
}

func TestAdmission(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	live := []string{"--upstream", mesh.Target, "--upstream-plaintext"}
	for _, test := range []struct {
		name  string
		flags []string
		want  bool
	}{
		{"on by default", live, true},
		{"off", append(live, "--admission", "off"), false},
		{"off in the sandbox", []string{"--sandbox"}, false},
		{"on in the sandbox", []string{"--sandbox", "--admission", "adaptive"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, append(test.flags, "--admin-listen", "127.0.0.1:0")...)
			const metric = "mesh_gateway_admission_gateway_limit 0\n"
			if got := strings.Contains(p.admin(t, "/metrics"), metric); got != test.want {
				t.Errorf("/metrics has %q: %t, want %t", metric, got, test.want)
			}
		})
	}
}

// TestStopping stops the program by its context, as signals do.
func TestStopping(t *testing.T) {
	const delay = time.Second
	for _, test := range []struct {
		name    string
		cause   error
		delayed bool
	}{
		{"a plain cancel is a SIGTERM", nil, true},
		{"an interrupt is a SIGINT", server.ErrInterrupted, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			delay := delay
			if !test.delayed {
				delay = 25 * time.Second
			}
			p := start(t, "--sandbox", "--drain-delay", delay.String())
			begin := time.Now()
			p.stop(test.cause)
			p.end()
			if took := time.Since(begin); took >= delay != test.delayed {
				t.Errorf("the end took %s with a delay of %s", took, delay)
			}
		})
	}
}

// program is mesh-gateway, running within the test.
type program struct {
	base           string
	stdout, stderr *meshtest.Transcript
	// stop tells the program to end, as SIGTERM does, or as SIGINT does where the
	// cause is server.ErrInterrupted.
	stop context.CancelCauseFunc
	// end waits until the program has ended and returns its exit status.
	end func() int
}

// start runs `mesh-gateway serve` with the flags on a free port, until the test
// ends, and wants it to end well.
func start(t *testing.T, flags ...string) *program {
	t.Helper()
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan int, 1)
	p := &program{stdout: meshtest.NewTranscript(), stderr: meshtest.NewTranscript(), stop: stop, end: sync.OnceValue(func() int { return <-ended })}
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "", "--drain-delay", "0s"}, flags...)
	go func() { ended <- run(ctx, args, streams{p.stdout, p.stderr}) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop(nil)
		if code := p.end(); code != 0 {
			t.Errorf("exit status %d\n%s", code, p.stderr)
		}
	})
	p.base = strings.TrimSuffix(strings.Fields(p.stdout.Wait(t, "Mesh API"))[2], "/v1")
	return p
}

// admin returns the answer of the admin listener, which the program must have.
func (p *program) admin(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get(strings.Fields(p.stdout.Wait(t, "Admin"))[1] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", path, response.Status, body, err)
	}
	return string(body)
}

// send makes a request as the first API user of the sandbox, or as nobody.
func (p *program) send(t *testing.T, method, path, body string, anonymous bool) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, p.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if !anonymous {
		caller := sandbox.Seeded()[0]
		request.Header.Set("X-Api-Key", caller.APIKey)
		request.Header.Set("X-Group", caller.Group)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}
