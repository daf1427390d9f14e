package e2e

import (
	"bytes"
	"encoding/json"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
)

// snippet is a program in the guide, as a reader copies it.
type snippet struct{ operation, language, code string }

var (
	article  = regexp.MustCompile(`(?s)<article id="(\w+)">(.*?)</article>`)
	programs = regexp.MustCompile(`(?s)<div class="snippet (\w+)"><pre[^>]*><code>(.*?)</code></pre></div>`)
)

// snippets returns the snippets of the guide.
func snippets(t *testing.T, p *program) []snippet {
	t.Helper()
	page := string(p.call(t, "GET", "/docs/guide", nil, "").body)
	var found []snippet
	for _, a := range article.FindAllStringSubmatch(page, -1) {
		for _, s := range programs.FindAllStringSubmatch(a[2], -1) {
			found = append(found, snippet{a[1], s[1], html.UnescapeString(s[2])})
		}
	}
	if len(found) == 0 {
		t.Fatal("the guide has no snippets")
	}
	return found
}

// TestTheSnippetsOfTheGuideRun runs each snippet as a reader would, on a new sandbox. All Go snippets
// are compiled, and one of each kind is run.
func TestTheSnippetsOfTheGuideRun(t *testing.T) {
	runners := map[string][]string{
		"curl":       {"bash", "-euo", "pipefail", "-c"},
		"javascript": {"node", "--input-type=module", "-e"},
		"python":     {"python3", "-c"},
	}
	for language, runner := range runners {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			p := start(t, "--sandbox", "--sandbox-clock", "manual", "--rate-limit-read", "0", "--rate-limit-write", "0")
			for _, s := range snippets(t, p) {
				if s.language == language {
					prepare(t, p, s)
					output := execute(t, p, s, t.TempDir(), append(runner, s.code)...)
					if language == "curl" {
						wantAnswer(t, s, output)
					}
				}
			}
		})
	}
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		p := start(t, "--sandbox")
		module := t.TempDir()
		write(t, filepath.Join(module, "go.mod"), "module guide\n\ngo 1.26\n")
		kinds := map[string]bool{"ListAPIUsers": true, "CreateLimitOrder": true, "MonitorLimitOrder": true, "GetExcelAccountReport": true, "InitialiseTokenTaps": true}
		for _, s := range snippets(t, p) {
			if s.language == "go" {
				write(t, filepath.Join(module, s.operation, "main.go"), s.code)
				if kinds[s.operation] {
					execute(t, p, s, module, "go", "run", "./"+s.operation)
				}
			}
		}
		execute(t, p, snippet{operation: "all"}, module, "go", "vet", "./...")
	})
}

// prepare resets the sandbox and makes the calls that the snippet needs.
func prepare(t *testing.T, p *program, s snippet) {
	t.Helper()
	reset(t, p)
	for _, op := range watch.Operations() {
		if op.ID != s.operation {
			continue
		}
		for _, before := range worksFor(t, op).Before {
			visit(t, p, before, statusOf(before))
		}
	}
}

func execute(t *testing.T, p *program, s snippet, dir string, command ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MESH_URL="+p.base, "MESH_API_KEY="+examples.Key, "MESH_GROUP="+examples.Group)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v\n%s%s\n%s", s.operation, err, &stdout, &stderr, s.code)
	}
	return stdout.String()
}

// wantAnswer checks that curl did not print an error, because curl exits with 0 in that case.
func wantAnswer(t *testing.T, s snippet, output string) {
	t.Helper()
	if s.operation == "GetExcelAccountReport" {
		return // written to a file
	}
	for line := range strings.Lines(output) {
		var answer map[string]any
		if err := json.Unmarshal([]byte(line), &answer); err != nil || answer["code"] != nil || answer["error"] != nil {
			t.Errorf("%s: %s\n%s", s.operation, line, s.code)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
