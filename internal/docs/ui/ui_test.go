package ui_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/docs/ui"
	"github.com/meshtrade/mesh-gateway/openapi"
)

func get(t *testing.T, handler http.Handler, path string, headers ...string) *http.Response {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder.Result()
}

func body(t *testing.T, response *http.Response) string {
	t.Helper()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func docs(t *testing.T, deployment openapi.Deployment, keys ...ui.TestKey) *ui.Docs {
	t.Helper()
	return withOptions(t, ui.Options{Deployment: deployment, TestKeys: keys, SandboxGRPC: "127.0.0.1:50051"})
}

func withOptions(t *testing.T, o ui.Options) *ui.Docs {
	t.Helper()
	d, err := ui.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sandbox returns the documentation of a sandbox.
func sandbox(t *testing.T) *ui.Docs {
	t.Helper()
	return docs(t, openapi.Deployment{Sandbox: true}, ui.TestKey{Name: "Admin", Key: "test-key", Group: "groups/test"})
}

// TestPages follows every link of the pages. The documentation must serve each target itself.
func TestPages(t *testing.T) {
	d := sandbox(t)
	for _, path := range []string{"/docs", "/docs/", "/docs/guide"} {
		response := get(t, d, path)
		html := body(t, response)
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Fatalf("%s: %s, %s", path, response.Status, response.Header.Get("Content-Type"))
		}
		if regexp.MustCompile(`<script(>| [^s])|<style| on\w+=| style=`).MatchString(html) {
			t.Errorf("%s has an inline script or style, which its policy blocks", path)
		}
		ids := make(map[string]bool)
		for _, id := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(html, -1) {
			if ids[id[1]] {
				t.Errorf("%s: duplicate id %s", path, id[1])
			}
			ids[id[1]] = true
		}
		links := regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(html, -1)
		if len(links) < 5 {
			t.Errorf("%s: links = %q, want at least 5", path, links)
		}
		for _, link := range links {
			target, fragment, _ := strings.Cut(link[1], "#")
			switch spec, ok := d.Specs()[target]; {
			case target == "" && !ids[fragment]:
				t.Errorf("%s: #%s does not exist", path, fragment)
			case target == "":
			case ok:
				if got := get(t, spec, target); got.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", target, got.Status)
				}
			default:
				if got := get(t, d, target); got.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", link[1], got.Status)
				}
			}
		}
	}
}

func TestOnlyTheSandboxHasTestKeys(t *testing.T) {
	for path, ribbon := range map[string]string{"/docs": "Use this test key", "/docs/guide": `id="sandbox"`} {
		if html := body(t, get(t, sandbox(t), path)); !strings.Contains(html, ribbon) {
			t.Errorf("%s of a sandbox does not contain %q", path, ribbon)
		}
		if html := body(t, get(t, docs(t, openapi.Deployment{}), path)); strings.Contains(html, ribbon) || strings.Contains(html, "test-key") {
			t.Errorf("%s of the live API contains %q", path, ribbon)
		}
	}
}

// TestTheGuideHasEveryOperation compares the guide with the document.
func TestTheGuideHasEveryOperation(t *testing.T) {
	content, err := openapi.Write(openapi.JSON, openapi.Deployment{})
	if err != nil {
		t.Fatal(err)
	}
	html := body(t, get(t, docs(t, openapi.Deployment{}), "/docs/guide"))
	ids := regexp.MustCompile(`"operationId": "(\w+)"`).FindAllStringSubmatch(string(content), -1)
	for _, id := range ids {
		if id[1] != "CreateStreamTicket" && !strings.Contains(html, `<article id="`+id[1]+`">`) {
			t.Errorf("%s is missing", id[1])
		}
	}
	if count := strings.Count(html, `<div class="snippet`); count != 4*(len(ids)-1) {
		t.Errorf("%d snippets for %d operations in four languages", count, len(ids)-1)
	}
}

func TestTheGuideNamesThePublicAddress(t *testing.T) {
	html := body(t, get(t, docs(t, openapi.Deployment{PublicURL: "https://api.example.com/mesh/"}), "/docs/guide"))
	if !strings.Contains(html, ">https://api.example.com/mesh<") {
		t.Error("the public address is missing")
	}
}

func TestPolicies(t *testing.T) {
	for _, path := range []string{"/docs", "/docs/guide", "/docs/docs.js"} {
		policy := get(t, sandbox(t), path).Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "connect-src 'self';", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q does not contain %q", path, policy, want)
			}
		}
		if strings.Contains(policy, "http") || strings.Contains(policy, "unsafe-eval") {
			t.Errorf("%s: policy %q is too wide", path, policy)
		}
		if path != "/docs" && strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q is wider than it needs to be", path, policy)
		}
	}
}

func TestAssetEncodings(t *testing.T) {
	handler := sandbox(t)
	const path = "/docs/swagger-ui-bundle.js"
	compressed := get(t, handler, path, "Accept-Encoding", "br, gzip")
	reader, err := gzip.NewReader(compressed.Body)
	if err != nil {
		t.Fatal(err)
	}
	want, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	plain := get(t, handler, path, "Accept-Encoding", "gzip;q=0")
	if got := body(t, plain); got != string(want) || !strings.Contains(got, "SwaggerUIBundle") {
		t.Error("the two encodings have different content")
	}
	for _, response := range []*http.Response{compressed, plain} {
		if response.Header.Get("Vary") != "Accept-Encoding" || response.Header.Get("Content-Type") != "text/javascript; charset=utf-8" {
			t.Errorf("headers = %v", response.Header)
		}
	}
	if compressed.Header.Get("ETag") == plain.Header.Get("ETag") {
		t.Error("the two encodings share a strong ETag")
	}
	again := get(t, handler, path, "Accept-Encoding", "gzip", "If-None-Match", compressed.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("If-None-Match: %s", again.Status)
	}
}

// TestFilesAreNotCopied has many clients that do not accept gzip.
func TestFilesAreNotCopied(t *testing.T) {
	handler := sandbox(t)
	request := httptest.NewRequest(http.MethodGet, "/docs/swagger-ui-bundle.js", nil)
	w := &countingWriter{header: http.Header{}}
	handler.ServeHTTP(w, request) // decompresses it
	if w.written < 1<<20 {
		t.Fatalf("%d bytes were written", w.written)
	}
	const responses = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range responses {
		handler.ServeHTTP(w, request)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / responses; got > 8<<10 {
		t.Errorf("a response allocates %d bytes", got)
	}
}

// countingWriter is a response that counts the bytes of its body.
type countingWriter struct {
	header  http.Header
	written int
}

func (w *countingWriter) Header() http.Header { return w.header }
func (w *countingWriter) WriteHeader(int)     {}

func (w *countingWriter) Write(data []byte) (int, error) {
	w.written += len(data)
	return len(data), nil
}

func TestPartOfAnAsset(t *testing.T) {
	handler := sandbox(t)
	whole := body(t, get(t, handler, "/docs/swagger-ui-bundle.js"))
	part := get(t, handler, "/docs/swagger-ui-bundle.js", "Range", "bytes=100-199")
	if got := body(t, part); part.StatusCode != http.StatusPartialContent || got != whole[100:200] {
		t.Errorf("%s: %q, want %q", part.Status, got, whole[100:200])
	}
	parts := get(t, handler, "/docs/swagger-ui-bundle.js", "Range", "bytes=0-9,100-199")
	if got := body(t, parts); parts.StatusCode != http.StatusPartialContent || !strings.Contains(got, whole[100:200]) {
		t.Errorf("%s: %q", parts.Status, got)
	}
}

func TestUnknownAsset(t *testing.T) {
	response := get(t, sandbox(t), "/docs/none.js")
	if response.StatusCode != http.StatusNotFound || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s, %s", response.Status, response.Header.Get("Content-Type"))
	}
}

func TestSpecs(t *testing.T) {
	deployment := openapi.Deployment{PublicURL: "https://api.example.com", Sandbox: true}
	for path, want := range map[string]struct {
		format    openapi.Format
		mediaType string
	}{
		"/openapi.json": {openapi.JSON, "application/json"},
		"/openapi.yaml": {openapi.YAML, "application/yaml"},
		"/swagger.json": {openapi.Swagger2, "application/json"},
	} {
		t.Run(path, func(t *testing.T) {
			content, err := openapi.Write(want.format, deployment)
			if err != nil {
				t.Fatal(err)
			}
			handler := docs(t, deployment).Specs()[path]
			response := get(t, handler, path)
			if got := body(t, response); response.StatusCode != http.StatusOK || got != string(content) {
				t.Fatalf("%s, %d bytes", response.Status, len(got))
			}
			for name, want := range map[string]string{"Content-Type": want.mediaType, "Cache-Control": "no-cache"} {
				if got := response.Header.Get(name); got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
			}
			tag := response.Header.Get("ETag")
			for _, match := range []string{tag, `"other", ` + tag, "*"} {
				got := get(t, handler, path, "If-None-Match", match)
				if got.StatusCode != http.StatusNotModified || body(t, got) != "" {
					t.Errorf("If-None-Match %s: %s", match, got.Status)
				}
			}
			if got := get(t, handler, path, "If-None-Match", `"other"`); got.StatusCode != http.StatusOK {
				t.Errorf("If-None-Match with another ETag: %s", got.Status)
			}
		})
	}
}
