// Package e2e tests the built program from the outside: over HTTP and gRPC, with signals and exit
// statuses, in a browser, and with the snippets of its documentation. The tests need chromium, curl,
// node, python3, postgresql and redis-server.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/e2e/conformance"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
)

// Set by TestMain for all tests, because the report covers all calls.
var (
	binary string // the program
	watch  *conformance.Watch
	client *http.Client
)

// TestMain builds the program, compares every call of every test with the OpenAPI document, and
// fails if they differ. If OPENAPI_REPORT is set, it writes a report to that file.
func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "mesh-gateway-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary = filepath.Join(dir, "mesh-gateway")
	if err := build(binary); err != nil {
		return 1, err
	}
	document, err := exec.CommandContext(context.Background(), binary, "openapi", "--sandbox").Output()
	if err != nil {
		return 1, fmt.Errorf("mesh-gateway openapi: %w", err)
	}
	if watch, err = conformance.New(document); err != nil {
		return 1, err
	}
	client = &http.Client{Transport: watch.Transport(http.DefaultTransport)}

	code = m.Run()
	for _, mismatch := range watch.Mismatches() {
		fmt.Fprintln(os.Stderr, "not as documented:", mismatch)
		code = 1
	}
	if file := os.Getenv("OPENAPI_REPORT"); file != "" {
		err = os.WriteFile(file, []byte(watch.Report()+"\n"), 0o600)
	}
	return code, err
}

// build builds the program with the requirements of the main module. It uses the race detector if
// the tests do. After a race, the program exits with status 66.
func build(output string) error {
	args := []string{"-C", "..", "build", "-o", output}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(context.Background(), "go", append(args, "./cmd/mesh-gateway")...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, said)
	}
	return nil
}

// endTimeout is the time limit for the program to end before it is killed. Its own limit is 30
// seconds.
const endTimeout = 40 * time.Second

// program is a running mesh-gateway.
type program struct {
	base    string // URL of its HTTP listener
	stdout  *meshtest.Transcript
	stderr  *meshtest.Transcript
	process *os.Process
	// client sends requests, and sockets opens WebSockets, which needs HTTP/1.1. If they are nil, that
	// is the client of all tests.
	client, sockets *http.Client
	killed          bool
	// end waits until the program has ended and returns its exit status, or -1 if it was
	// killed.
	end func() int
}

// start runs `mesh-gateway serve` with the flags on a free port until the test ends. The exit status
// must be 0.
func start(t *testing.T, flags ...string) *program {
	t.Helper()
	p := launch(t, append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "", "--drain-delay", "0s"}, flags...)...)
	line := p.stdout.Wait(t, "Mesh API")
	p.base = strings.TrimSuffix(strings.Fields(line)[2], "/v1")
	return p
}

// launch runs the program until the test ends. The exit status must be 0, unless it is killed.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{stdout: meshtest.NewTranscript(), stderr: meshtest.NewTranscript()}
	// The context of the test is cancelled before its cleanup, which would kill the program.
	ctx, kill := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	if err := cmd.Start(); err != nil {
		kill()
		t.Fatal(err)
	}
	p.process = cmd.Process
	p.end = sync.OnceValue(func() int {
		defer time.AfterFunc(endTimeout, kill).Stop()
		_ = cmd.Wait() // the exit status is checked instead
		return cmd.ProcessState.ExitCode()
	})
	t.Cleanup(func() {
		defer kill()
		client.CloseIdleConnections()
		p.signal(t, syscall.SIGTERM)
		if code := p.end(); code != 0 && !p.killed {
			t.Errorf("exit status %d\n%s", code, p.stderr)
		}
	})
	return p
}

// kill ends the program at once, without a chance to finish what it does.
func (p *program) kill(t *testing.T) {
	t.Helper()
	p.killed = true
	p.signal(t, syscall.SIGKILL)
	p.end()
}

// signal sends a signal to the program, if it has not ended.
func (p *program) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

// admin returns the program with the URL of its admin listener.
func (p *program) admin(t *testing.T) *program {
	t.Helper()
	return &program{base: strings.Fields(p.stdout.Wait(t, "Admin"))[1]}
}

// command runs the program and waits for it to end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// answer is an HTTP response with its whole body.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// object returns the body as a JSON object.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(a.body, &object); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return object
}

// detail returns the error detail whose type ends in name.
func (a answer) detail(t *testing.T, name string) map[string]any {
	t.Helper()
	details, _ := a.object(t)["details"].([]any)
	for _, detail := range details {
		if d, ok := detail.(map[string]any); ok && strings.HasSuffix(d["@type"].(string), name) {
			return d
		}
	}
	return nil
}

// credential returns the seeded API user with a display name.
func credential(t *testing.T, displayName string) sandbox.Credential {
	t.Helper()
	for _, c := range sandbox.Seeded() {
		if c.DisplayName == displayName {
			return c
		}
	}
	t.Fatalf("there is no seeded API user %q", displayName)
	return sandbox.Credential{}
}

// as returns the headers for requests with a credential.
func as(c sandbox.Credential) http.Header {
	return http.Header{"X-Api-Key": {c.APIKey}, "X-Group": {c.Group}}
}

func (p *program) call(t *testing.T, method, path string, header http.Header, body string) answer {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, p.base+path, content)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	if body != "" && request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := p.http().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, read}
}

// address is the HOST:PORT of the program's HTTP listener.
func (p *program) address() string { return p.base[strings.Index(p.base, "://")+3:] }

// http returns the client for requests.
func (p *program) http() *http.Client {
	if p.client != nil {
		return p.client
	}
	return client
}
