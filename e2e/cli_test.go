package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

func TestAPortInUse(t *testing.T) {
	p := start(t, "--sandbox")
	code, _, stderr := command(t, "serve", "--sandbox", "--listen", strings.TrimPrefix(p.base, "http://"), "--admin-listen", "")
	if code != 1 || !strings.Contains(stderr, "cannot listen on") {
		t.Errorf("exit status %d: %s", code, stderr)
	}
}

func TestOpenAPIPrintsTheServedDocument(t *testing.T) {
	for name, flags := range map[string][]string{
		"the sandbox":                    {"--sandbox"},
		"a public URL":                   {"--sandbox", "--public-url", "https://mesh.example.com/api"},
		"the live API":                   {},
		"the live API with a public URL": {"--public-url", "https://mesh.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, flags...)
			for format, path := range map[string]string{"json": "/openapi.json", "yaml": "/openapi.yaml", "swagger2": "/swagger.json"} {
				code, stdout, _ := command(t, append([]string{"openapi", "--format", format}, flags...)...)
				if served := p.call(t, "GET", path, nil, ""); code != 0 || stdout != string(served.body) {
					t.Errorf("%s: exit %d, %d bytes printed, %d served", format, code, len(stdout), len(served.body))
				}
			}
		})
	}
}

func TestHealthcheck(t *testing.T) {
	p := start(t, "--sandbox")
	if code, _, stderr := command(t, "healthcheck", "--url", p.base+"/healthz"); code != 0 {
		t.Errorf("exit status %d: %s", code, stderr)
	}
	if code, _, _ := command(t, "healthcheck", "--url", p.base+"/nothing"); code != 1 {
		t.Errorf("exit status %d for an unhealthy gateway, want 1", code)
	}
}

func TestTheRequestPrintedAtStartWorks(t *testing.T) {
	p := start(t, "--sandbox")
	p.stdout.Wait(t, "-H 'X-Group")
	text := p.stdout.String()
	header := http.Header{}
	for _, name := range []string{"X-Api-Key", "X-Group"} {
		_, rest, _ := strings.Cut(text, "-H '"+name+": ")
		value, _, _ := strings.Cut(rest, "'")
		header.Set(name, value)
	}
	_, rest, _ := strings.Cut(text, "curl "+p.base)
	path, _, _ := strings.Cut(rest, " ")
	if a := p.call(t, "GET", path, header, ""); a.status != http.StatusOK {
		t.Errorf("%s: %d %s", path, a.status, a.body)
	}
	if a := p.call(t, "GET", "/docs", nil, ""); a.status != http.StatusOK {
		t.Errorf("/docs: %d", a.status)
	}
}

// TestLocalMode checks that the developer's key is added to requests on loopback, and to no other
// requests.
func TestLocalMode(t *testing.T) {
	const key = "developer-key-of-43-characters-000000000000"
	file := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(file, []byte(`{"api_key": "`+key+`", "group_id": "`+group+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MESH_API_CREDENTIALS", file)
	upstream := meshtest.NewUpstream(t)
	p := start(t, "--credentials", "auto", "--upstream", upstream.Target, "--upstream-plaintext")
	if !strings.Contains(p.stderr.String(), "chmod") {
		t.Errorf("no warning about a file that other users can read: %q", p.stderr)
	}

	other := strings.Repeat("o", 43)
	for _, test := range []struct {
		name    string
		header  http.Header
		host    string
		status  int
		wantKey string // that reaches the upstream
	}{
		{"no credentials", nil, "", http.StatusOK, key},
		{"another key", http.Header{"X-Api-Key": {other}, "X-Group": {group}}, "", http.StatusOK, other},
		{"another key without a group", http.Header{"X-Api-Key": {other}}, "", http.StatusUnauthorized, ""},
		{"another host", nil, "evil.example", http.StatusMisdirectedRequest, ""},
		{"a page of another site", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"no-cors"}}, "", http.StatusForbidden, ""},
		{"another origin", http.Header{"Origin": {"https://evil.example"}}, "", http.StatusForbidden, ""},
		{"its own docs", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {p.base}}, "", http.StatusOK, key},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream.Calls()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/v1/groups", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header = test.header.Clone()
			if request.Header == nil {
				request.Header = http.Header{}
			}
			request.Host = test.host
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != test.status {
				t.Errorf("status %d, want %d", response.StatusCode, test.status)
			}
			var reached string
			for _, call := range upstream.Calls() {
				reached = call.Metadata.Get("x-api-key")[0]
			}
			if reached != test.wantKey {
				t.Errorf("key %q reached the upstream, want %q", reached, test.wantKey)
			}
		})
	}
	if strings.Contains(p.stderr.String()+p.stdout.String(), key) {
		t.Error("the key is in the output")
	}
}

func TestAKeyIsNeverLogged(t *testing.T) {
	p := start(t, "--sandbox")
	admin := credential(t, "IAM Admin")
	p.call(t, "GET", "/v1/groups:search?displayName=secret-value", as(admin), "")
	p.call(t, "GET", "/v1/groups", http.Header{"Authorization": {"Bearer " + admin.APIKey}, "X-Group": {admin.Group}}, "")
	p.stderr.Wait(t, `"path":"/v1/groups"`)
	for _, secret := range []string{admin.APIKey, "secret-value"} {
		if strings.Contains(p.stderr.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
}

func TestCORS(t *testing.T) {
	const app = "https://app.example.com"
	p := start(t, "--sandbox", "--cors-origin", app)
	for _, test := range []struct{ name, origin, want string }{
		{"listed", app, app}, {"not listed", "https://other.example.com", ""}, {"null", "null", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			preflight := p.call(t, "OPTIONS", "/v1/groups", http.Header{
				"Origin": {test.origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"content-type,x-api-key,x-group"},
			}, "")
			if got := preflight.header.Get("Access-Control-Allow-Origin"); got != test.want {
				t.Errorf("preflight allows %q, want %q", got, test.want)
			}
			if got := preflight.header.Get("Access-Control-Max-Age"); test.want != "" && got != "7200" {
				t.Errorf("Access-Control-Max-Age is %q, want 7200", got)
			}
			refused := p.call(t, "GET", "/v1/groups", http.Header{"Origin": {test.origin}}, "")
			if got := refused.header.Get("Access-Control-Allow-Origin"); got != test.want {
				t.Errorf("an error response allows %q, want %q", got, test.want)
			}
			exposed := refused.header.Get("Access-Control-Expose-Headers")
			for _, name := range []string{"X-Request-Id", "Ratelimit", "Retry-After"} {
				if got := strings.Contains(exposed, name); got != (test.want != "") {
					t.Errorf("%s is exposed: %t; exposed headers: %q", name, got, exposed)
				}
			}
		})
	}
}

func TestAdminListener(t *testing.T) {
	p := start(t, "--sandbox", "--admin-listen", "127.0.0.1:0")
	admin := p.admin(t)
	for _, test := range []struct {
		name, path        string
		admin, everywhere int
	}{
		{"alive", "/healthz", 200, 200},
		{"ready", "/readyz", 200, 200},
		{"version", "/version", 200, 200},
		{"metrics are only on the admin listener", "/metrics", 200, 404},
		{"profiles are only on the admin listener", "/debug/pprof/cmdline", 200, 404},
		{"calls are only on the public listener", "/v1/groups", 404, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := admin.call(t, "GET", test.path, nil, "").status; got != test.admin {
				t.Errorf("the admin listener returned %d, want %d", got, test.admin)
			}
			if got := p.call(t, "GET", test.path, nil, "").status; got != test.everywhere {
				t.Errorf("the public listener returned %d, want %d", got, test.everywhere)
			}
		})
	}
}
