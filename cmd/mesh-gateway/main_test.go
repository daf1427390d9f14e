package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshtrade/mesh-gateway/internal/openapitest"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/openapi"
)

// TestMain holds every call of every test against the OpenAPI document, and
// fails where they differ. Where OPENAPI_REPORT names a file, what was seen is
// told there.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		for _, mismatch := range watch.Mismatches() {
			fmt.Fprintln(os.Stderr, "not as documented:", mismatch)
			code = 1
		}
		if file := os.Getenv("OPENAPI_REPORT"); file != "" {
			if err := os.WriteFile(file, []byte(watch.Report()+"\n"), 0o600); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
		os.Exit(code)
	}))
}

// watch and client are of all tests of the package: the report is of all calls.
var (
	watch  = newWatch()
	client = &http.Client{Transport: watch.Transport(http.DefaultTransport)}
)

func newWatch() *openapitest.Watch {
	document, err := openapi.Write(openapi.JSON, openapi.Deployment{Sandbox: true})
	if err != nil {
		panic(err)
	}
	w, err := openapitest.New(document)
	if err != nil {
		panic(err)
	}
	return w
}

// program is a running mesh-gateway, started as from the command line.
type program struct {
	base   string
	stdout *transcript
	stderr *transcript
	// stop tells the program to end, as SIGTERM does, and as SIGINT does where the
	// cause is server.ErrInterrupted.
	stop context.CancelCauseFunc
	// end waits until the program has ended and returns its exit status.
	end func() int
}

// start runs `mesh-gateway serve` with the flags on a free port, until the
// test ends, and wants it to end well.
func start(t *testing.T, flags ...string) *program {
	t.Helper()
	p := launch(t, append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "", "--drain-delay", "0s"}, flags...)...)
	line := p.stdout.wait(t, "Mesh API")
	p.base = strings.TrimSuffix(strings.Fields(line)[2], "/v1")
	return p
}

// launch runs the program until the test ends, and wants it to end well.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan int, 1)
	p := &program{stdout: newTranscript(), stderr: newTranscript(), stop: stop, end: sync.OnceValue(func() int { return <-ended })}
	go func() { ended <- run(ctx, args, streams{p.stdout, p.stderr}) }()
	t.Cleanup(func() {
		client.CloseIdleConnections()
		stop(nil)
		if code := p.end(); code != 0 {
			t.Errorf("exit status %d\n%s", code, p.stderr)
		}
	})
	return p
}

// transcript is what a program writes, readable while it does.
type transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{}
}

func newTranscript() *transcript { return &transcript{written: make(chan struct{}, 1)} }

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.written <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// wait returns the first line that holds part, once it is written.
func (o *transcript) wait(t *testing.T, part string) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		for line := range strings.Lines(o.String()) {
			if strings.Contains(line, part) && strings.HasSuffix(line, "\n") {
				return line
			}
		}
		select {
		case <-o.written:
		case <-deadline:
			t.Fatalf("no line with %q was written:\n%s", part, o)
		}
	}
}

// answer is an HTTP answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// object is the body as JSON.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(a.body, &object); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return object
}

// detail is the error detail whose type ends in name.
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

// credential returns the seeded API user of a display name.
func credential(t *testing.T, displayName string) sandbox.Credential {
	t.Helper()
	for _, c := range sandbox.Seeded() {
		if c.DisplayName == displayName {
			return c
		}
	}
	t.Fatalf("no API user %q is seeded", displayName)
	return sandbox.Credential{}
}

// as makes requests with a credential.
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
	response, err := client.Do(request)
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
