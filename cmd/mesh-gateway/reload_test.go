package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// configured is a program with a configuration file that a test changes.
type configured struct {
	*program

	path string
}

// startConfigured runs serve with a file.
func startConfigured(t *testing.T, lines ...string) *configured {
	t.Helper()
	path := configFile(t, lines...)
	return &configured{start(t, "--sandbox", "--sandbox-clock", "manual", "--admin-listen", "127.0.0.1:0", "--config", path), path}
}

// reload replaces the file, sends SIGHUP, and waits until the log has the words.
func (c *configured) reload(t *testing.T, logged string, lines ...string) {
	t.Helper()
	writeFile(t, c.path, strings.Join(lines, "\n")+"\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	c.stderr.Wait(t, logged)
}

// get returns the response to a read. Its body is closed.
func (c *configured) get(t *testing.T, header ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.base+"/v1/groups", nil)
	if err != nil {
		t.Fatal(err)
	}
	caller := sandbox.Seeded()[0]
	request.Header.Set("X-Api-Key", caller.APIKey)
	request.Header.Set("X-Group", caller.Group)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response
}

// TestReload changes each live setting of a running program, and looks for what clients see of it.
func TestReload(t *testing.T) {
	quota := func(method string) func(*testing.T, *configured) any {
		return func(t *testing.T, c *configured) any {
			response := c.send(t, method, "/v1/groups", "", false)
			response.Body.Close()
			return response.Header.Get("RateLimit-Policy")
		}
	}
	streams := func(t *testing.T, c *configured) any { return c.openStreams(t, 2) }
	connections := func(t *testing.T, c *configured) any { return c.openConnections(t, 2) }
	status := func(t *testing.T, c *configured) any { return c.get(t).StatusCode }
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(sandbox.Seeded()[0].APIKey)))
	tests := map[string]struct {
		before, after string
		seen          func(*testing.T, *configured) any
		want          [2]any
	}{
		"cors-origin": {"[https://a.example]", "[https://b.example]", func(t *testing.T, c *configured) any {
			return c.get(t, "Origin", "https://b.example").Header.Get("Access-Control-Allow-Origin")
		}, [2]any{"", "https://b.example"}},
		"trusted-proxy": {"[192.0.2.1]", "[127.0.0.1]", func(t *testing.T, c *configured) any {
			id := fmt.Sprintf("request-%d", time.Now().UnixNano())
			c.get(t, "X-Forwarded-For", "198.51.100.7", "X-Request-Id", id)
			return strings.Contains(c.stderr.Wait(t, id), "198.51.100.7")
		}, [2]any{false, true}},
		"rate-limit-read":  {"100/1h", "200/1h", quota("GET"), [2]any{`"read-address";q=400;w=3600`, `"read-address";q=800;w=3600`}},
		"rate-limit-write": {"100/1h", "200/1h", quota("POST"), [2]any{`"write-address";q=400;w=3600`, `"write-address";q=800;w=3600`}},
		"rate-limit-failures": {"0", "1/1h", func(t *testing.T, c *configured) (status any) {
			for range 3 {
				response := c.send(t, "GET", "/v1/nothing", "", true)
				response.Body.Close()
				status = response.StatusCode
			}
			return status
		}, [2]any{http.StatusNotFound, http.StatusTooManyRequests}},
		"log-sample-success": {"0", "1", func(t *testing.T, c *configured) any {
			id := fmt.Sprintf("request-%d", time.Now().UnixNano())
			c.get(t, "X-Request-Id", id+"-success")
			response := c.get(t, "X-Request-Id", id+"-failure", "Accept", "text/plain")
			if response.StatusCode != http.StatusNotAcceptable {
				t.Error(response.Status)
			}
			c.stderr.Wait(t, id+"-failure") // always logged, and later
			return strings.Contains(c.stderr.String(), id+"-success")
		}, [2]any{false, true}},
		"max-streams":             {"1", "100", streams, [2]any{1, 2}},
		"max-key-streams":         {"1", "100", streams, [2]any{1, 2}},
		"max-connections":         {"1", "100", connections, [2]any{1, 2}},
		"max-address-connections": {"1", "100", connections, [2]any{1, 2}},
		"max-body-bytes": {"10", "1000", func(t *testing.T, c *configured) any {
			response := c.send(t, "POST", "/v1/groups", `{"owner": "me"}        `, false)
			response.Body.Close()
			return response.StatusCode
		}, [2]any{http.StatusRequestEntityTooLarge, http.StatusBadRequest}},
		"read-only": {"true", "false", func(t *testing.T, c *configured) any {
			response := c.send(t, "POST", "/v1/groups", `{}`, false)
			response.Body.Close()
			return response.StatusCode
		}, [2]any{http.StatusForbidden, http.StatusBadRequest}},
		"disable":       {"[GroupService]", "[AccountService]", status, [2]any{http.StatusForbidden, http.StatusOK}},
		"allow-cidr":    {"[192.0.2.0/24]", "[127.0.0.0/8]", status, [2]any{http.StatusForbidden, http.StatusOK}},
		"key-rule":      {"[" + hash + " AccountService]", "[" + hash + " GroupService]", status, [2]any{http.StatusForbidden, http.StatusOK}},
		"unlisted-keys": {"refuse", "allow", status, [2]any{http.StatusForbidden, http.StatusOK}},
		"request-timeout": {"1ms", "30s", func(t *testing.T, c *configured) any {
			return c.get(t, "X-Sandbox-Fault", "slow=100ms").StatusCode == http.StatusOK
		}, [2]any{false, true}},
	}
	for _, setting := range parseServe(t).Config.Settings() {
		if !setting.Live || setting.Name == "log-level" { // TestReloadOfTheLogLevel
			continue
		}
		test, ok := tests[setting.Name]
		if !ok {
			t.Errorf("%s is live, and its reload is not tested", setting.Name)
			continue
		}
		t.Run(setting.Name, func(t *testing.T) {
			c := startConfigured(t, setting.Name+": "+test.before)
			if got := test.seen(t, c); got != test.want[0] {
				t.Errorf("with %s: %v, want %v", test.before, got, test.want[0])
			}
			c.apply(t, setting.Name+": "+test.after)
			if got := test.seen(t, c); got != test.want[1] {
				t.Errorf("with %s: %v, want %v", test.after, got, test.want[1])
			}
		})
	}
}

// openConnections opens n connections and returns how many of them are served. They are closed in the
// end.
func (c *configured) openConnections(t *testing.T, n int) (served int) {
	t.Helper()
	address := strings.TrimPrefix(c.base, "http://")
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: "+address+"\r\n\r\n") // or it is closed already
		if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && strings.Contains(line, " 200 ") {
			served++
		}
	}
	return served
}

// apply replaces the file and waits until the program has read it, by the metrics.
func (c *configured) apply(t *testing.T, lines ...string) {
	t.Helper()
	count := func() string {
		for line := range strings.Lines(c.admin(t, "/metrics")) {
			if strings.HasPrefix(line, `mesh_gateway_config_reloads_total{result="success"}`) {
				return line
			}
		}
		t.Fatal("reloads are not counted")
		return ""
	}
	before := count()
	writeFile(t, c.path, strings.Join(lines, "\n")+"\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the configuration was not reloaded", func() bool { return count() != before })
}

// openStreams opens streams until one is refused, at most n, and returns how many there were. They
// are closed in the end.
func (c *configured) openStreams(t *testing.T, n int) (open int) {
	t.Helper()
	for range n {
		response := c.send(t, "GET", "/v1/limit_orders/00000000000000000000000006:monitor", "", false)
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return open
		}
		open++
	}
	return open
}

func TestReloadOfTheLogLevel(t *testing.T) {
	c := startConfigured(t, "log-level: error")
	c.get(t, "X-Request-Id", "below-the-level")
	c.apply(t, "log-level: info")
	c.get(t, "X-Request-Id", "at-the-level")
	c.stderr.Wait(t, "at-the-level") // records are in order
	if strings.Contains(c.stderr.String(), "below-the-level") {
		t.Error(c.stderr)
	}
}

func TestReloadOfAMistake(t *testing.T) {
	c := startConfigured(t, "rate-limit-read: 100/1h")
	c.reload(t, c.path+":2:14: max-streams: must be at least 1", "rate-limit-read: 200/1h", "max-streams: 0", "nothing: 1")
	if line := c.stderr.Wait(t, c.path+":3:1: nothing: there is no such setting"); !strings.Contains(line, `"level":"ERROR"`) || !strings.Contains(line, `"setting":"nothing"`) {
		t.Error(line)
	}
	if quota := c.get(t).Header.Get("RateLimit-Policy"); quota != `"read-address";q=400;w=3600` {
		t.Errorf("the quota is %s", quota)
	}
	for _, want := range []string{
		"mesh_gateway_config_last_reload_successful 0", `mesh_gateway_config_reloads_total{result="failure"} 1`, `mesh_gateway_config_reloads_total{result="success"} 0`,
	} {
		if metrics := c.admin(t, "/metrics"); !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	c.reload(t, `"rate-limit-read":"100/1h0m0s -> 200/1h0m0s"`, "rate-limit-read: 200/1h")
	if metrics := c.admin(t, "/metrics"); !strings.Contains(metrics, "\nmesh_gateway_config_last_reload_successful 1\n") {
		t.Error("the metrics do not report the last reload as successful")
	}
}

func TestReloadThatNeedsARestart(t *testing.T) {
	c := startConfigured(t, "idempotency: optional")
	c.reload(t, `"max-streams":"5000 -> 7"`, "idempotency: required", "max-streams: 7")
	line := c.stderr.Wait(t, "needs a restart")
	if !strings.Contains(line, `"idempotency":"optional -> required"`) || strings.Contains(line, "max-streams") {
		t.Error(line)
	}
	response := c.send(t, "POST", "/v1/groups", `{"owner": "groups/00000000000000000000BR0KER", "displayName": "New"}`, false)
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("without an Idempotency-Key: %s", response.Status)
	}
}

// TestReloadUnderLoad runs the built program under load. Its file is changed by a SIGHUP and by the
// swap of a link, as Kubernetes does it.
func TestReloadUnderLoad(t *testing.T) {
	binary := build(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "gateway.yaml")
	version := func(name, content string) {
		writeFile(t, filepath.Join(dir, name), content)
		link := filepath.Join(dir, "next")
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, path); err != nil {
			t.Fatal(err)
		}
	}
	const unlimited = "rate-limit-read: 0\nrate-limit-write: 0\n"
	version("first.yaml", unlimited+"sandbox: true\nlisten: 127.0.0.1:0\nadmin-listen: ''\n")
	stdout, stderr := meshtest.NewTranscript(), meshtest.NewTranscript()
	command := exec.CommandContext(t.Context(), binary, "serve")
	command.Env = append(os.Environ(), "MESH_GATEWAY_CONFIG="+path)
	command.Stdout, command.Stderr = stdout, stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	p := &program{base: strings.TrimSuffix(word(t, stdout, "Mesh API", 2), "/v1"), stderr: stderr}

	stream := p.send(t, "GET", "/v1/limit_orders/00000000000000000000000006:monitor", "", false)
	defer stream.Body.Close()
	lines := bufio.NewReader(stream.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	var (
		load          sync.WaitGroup
		stop          atomic.Bool
		reads, writes atomic.Int64
	)
	request := func(method, body string, count *atomic.Int64) {
		for !stop.Load() {
			response := p.send(t, method, "/v1/groups", body, false)
			_, err := io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("%s: %s, %v", method, response.Status, err)
				return
			}
			count.Add(1)
		}
	}
	for range 4 {
		load.Go(func() { request("GET", "", &reads) })
	}
	load.Go(func() {
		request("POST", `{"owner": "groups/00000000000000000000BR0KER", "displayName": "New"}`, &writes)
	})

	for i := range 5 {
		version(fmt.Sprintf("hangup-%d.yaml", i), fmt.Sprintf("%ssandbox: true\nmax-key-streams: %d\n", unlimited, 10+i))
		if err := command.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		stderr.Wait(t, fmt.Sprintf(`-> %d"`, 10+i))
	}
	version("watched.yaml", unlimited+"sandbox: true\nmax-key-streams: 20\ncors-origin: [https://app.example.com]\n")
	stderr.Wait(t, `14 -> 20"`)
	before := reads.Load() + writes.Load()
	eventually(t, "no requests after the reload", func() bool {
		return reads.Load()+writes.Load() > before+20 || t.Failed()
	})
	stop.Store(true)
	load.Wait()
	t.Logf("%d reads and %d writes succeeded during 6 reloads", reads.Load(), writes.Load())
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || !strings.Contains(string(rest), "DRAINING") {
		t.Errorf("the stream that was open during all reloads ends with %q, %v", rest, err)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := command.Wait(); err != nil {
		t.Errorf("%v\n%s", err, stderr)
	}
}

// TestReloadIsAllOrNothing has one preparation of two fail.
func TestReloadIsAllOrNothing(t *testing.T) {
	logs := meshtest.NewTranscript()
	running := &parseServe(t).Config
	committed := false
	r := &reloader{
		started: running, running: running, metrics: telemetry.New("test").RegisterReloads(), logger: slog.New(slog.NewJSONHandler(logs, nil)),
		parse: func() (*config.Config, error) { return &parseServe(t, "--max-streams", "7").Config, nil },
		prepare: []preparation{
			func(*config.Config) (func(), error) { return func() { committed = true }, nil },
			func(*config.Config) (func(), error) { return nil, errors.New("the certificate has expired") },
		},
	}
	r.reload()
	if committed || r.running != running {
		t.Error("the new configuration is used in part")
	}
	logs.Wait(t, "the certificate has expired")
}
