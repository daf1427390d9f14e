package docsui_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/docsui"
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

// TestPage follows every link of the page: each must be served from here.
func TestPage(t *testing.T) {
	handler := docsui.Handler()
	for _, path := range []string{"/docs", "/docs/"} {
		response := get(t, handler, path)
		html := body(t, response)
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Fatalf("%s: %s, %s", path, response.Status, response.Header.Get("Content-Type"))
		}
		if strings.Contains(html, "//") {
			t.Errorf("%s names another host:\n%s", path, html)
		}
		if regexp.MustCompile(`<script(>| [^s])|<style| on\w+=| style=`).MatchString(html) {
			t.Errorf("%s has inline script or style, which its policy refuses", path)
		}
		links := regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(html, -1)
		if len(links) < 5 {
			t.Errorf("%s: found only the links %q", path, links)
		}
		for _, link := range links {
			if link[1] == "/openapi.json" {
				continue
			}
			if got := get(t, handler, link[1]); got.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", link[1], got.Status)
			}
		}
	}
}

func TestPolicy(t *testing.T) {
	policy := get(t, docsui.Handler(), "/docs").Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "connect-src 'self';", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "http") || strings.Contains(policy, "unsafe-eval") {
		t.Errorf("policy %q is too wide", policy)
	}
}

func TestInit(t *testing.T) {
	response := get(t, docsui.Handler(), "/docs/init.js")
	script := body(t, response)
	for _, want := range []string{
		"url: '/openapi.json'", "persistAuthorization: true", "tryItOutEnabled: true", "deepLinking: true", "validatorUrl: null",
	} {
		if !strings.Contains(script, want) {
			t.Errorf("init.js lacks %q", want)
		}
	}
	if strings.Contains(script, "http") {
		t.Error("init.js names a host")
	}
}

func TestAssetEncodings(t *testing.T) {
	handler := docsui.Handler()
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
		t.Error("the two encodings hold different scripts")
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

func TestUnknownAsset(t *testing.T) {
	response := get(t, docsui.Handler(), "/docs/none.js")
	if response.StatusCode != http.StatusNotFound || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s, %s", response.Status, response.Header.Get("Content-Type"))
	}
}

func TestSpec(t *testing.T) {
	handler := docsui.Spec()
	response := get(t, handler, "/openapi.json")
	content := []byte(body(t, response))
	if response.StatusCode != http.StatusOK || !bytes.Equal(content, openapi.JSON()) {
		t.Fatalf("%s, %d bytes", response.Status, len(content))
	}
	digest := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(digest[:]) + `"`
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-cache", "ETag": tag} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, match := range []string{tag, `"other", ` + tag, "*"} {
		got := get(t, handler, "/openapi.json", "If-None-Match", match)
		if got.StatusCode != http.StatusNotModified || body(t, got) != "" {
			t.Errorf("If-None-Match %s: %s", match, got.Status)
		}
	}
	if got := get(t, handler, "/openapi.json", "If-None-Match", `"other"`); got.StatusCode != http.StatusOK {
		t.Errorf("If-None-Match of another: %s", got.Status)
	}
}
