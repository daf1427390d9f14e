package middleware

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCORS(t *testing.T) {
	const app = "https://app.example.com"
	preflight := func(origin, method, headers string) []string {
		return []string{"Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", headers}
	}
	for _, test := range []struct {
		name    string
		origins []string
		method  string
		sent    []string
		allowed string
		reached bool
	}{
		{"none configured", nil, http.MethodGet, []string{"Origin", app}, "", true},
		{"none configured, preflight", nil, http.MethodOptions, preflight(app, "GET", ""), "", true},
		{"not a browser", []string{app}, http.MethodGet, nil, "", true},
		{"listed", []string{"https://x.example.com", app}, http.MethodGet, []string{"Origin", app}, app, true},
		{"other scheme", []string{app}, http.MethodGet, []string{"Origin", "http://app.example.com"}, "", true},
		{"other port", []string{app}, http.MethodGet, []string{"Origin", app + ":8443"}, "", true},
		{"longer host", []string{app}, http.MethodGet, []string{"Origin", app + ".evil.com"}, "", true},
		{"subdomain", []string{app}, http.MethodGet, []string{"Origin", "https://a.app.example.com"}, "", true},
		{"null", []string{app}, http.MethodGet, []string{"Origin", "null"}, "", true},
		{"an asterisk is not a wildcard", []string{"*", "https://*.example.com"}, http.MethodGet, []string{"Origin", app}, "", true},
		{"preflight", []string{app}, http.MethodOptions,
			preflight(app, "PATCH", "authorization,content-type,last-event-id,request-timeout,traceparent,x-api-key,x-group,x-request-id"), app, false},
		{"preflight of another origin", []string{app}, http.MethodOptions, preflight("https://evil.com", "GET", ""), "", false},
		{"preflight with another header", []string{app}, http.MethodOptions, preflight(app, "GET", "x-other"), "", false},
		{"preflight with a header that no feature reads", []string{app}, http.MethodOptions, preflight(app, "POST", "If-Match"), "", false},
		{"preflight for DELETE", []string{app}, http.MethodOptions, preflight(app, "DELETE", ""), "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, next := httptest.NewRecorder(), new(capture)
			CORS(test.origins)(next).ServeHTTP(w, headers(httptest.NewRequest(test.method, "/v1/groups", nil), test.sent...))
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != test.allowed {
				t.Errorf("allowed %q, want %q", got, test.allowed)
			}
			if w.Header().Get("Access-Control-Allow-Credentials") != "" {
				t.Error("credentials are allowed")
			}
			if (next.request != nil) != test.reached {
				t.Errorf("reached the handler: %t", next.request != nil)
			}
			if test.allowed == "" {
				return
			}
			if test.method == http.MethodOptions {
				if got := w.Header().Get("Access-Control-Max-Age"); got != "7200" {
					t.Errorf("max age %q", got)
				}
			} else if got := w.Header().Get("Access-Control-Expose-Headers"); !strings.Contains(got, "X-Request-Id") || !strings.Contains(got, "Content-Disposition") || !strings.Contains(got, "Idempotent-Replayed") {
				t.Errorf("exposed %q", got)
			}
		})
	}
}

func TestParseOrigin(t *testing.T) {
	for _, test := range []struct{ text, want, wantErr string }{
		{"https://app.example.com", "https://app.example.com", ""},
		{"HTTPS://App.Example.COM", "https://app.example.com", ""},
		{"https://app.example.com:443", "https://app.example.com", ""},
		{"http://app.example.com:80", "http://app.example.com", ""},
		{"http://app.example.com:443", "http://app.example.com:443", ""},
		{"http://localhost:1", "http://localhost:1", ""},
		{"http://localhost:65535", "http://localhost:65535", ""},
		{"http://localhost:03000", "http://localhost:3000", ""},
		{"http://[::1]:3000", "http://[::1]:3000", ""},
		{"http://[0:0::1]", "http://[::1]", ""},
		{"http://localhost:0", "", "port from 1"},
		{"http://localhost:65536", "", "port from 1"},
		{"http://localhost:", "", "ends in a colon"},
		{"", "", "is empty"},
		{"*", "", "wildcard"},
		{"https://*.example.com", "", "wildcard"},
		{"null", "", "must begin with"},
		{"app.example.com", "", "must begin with"},
		{"//app.example.com", "", "must begin with"},
		{"ftp://app.example.com", "", "must begin with"},
		{"localhost:3000", "", "must begin with"},
		{"https://", "", "has no host"},
		{"https:app.example.com", "", "has no host"},
		{"https://app.example.com/", "", "ends in a slash"},
		{"https://app.example.com/x", "", "contains a path"},
		{"https://app.example.com?x", "", "query"},
		{"https://app.example.com?", "", "query"},
		{"https://app.example.com#", "", "fragment"},
		{"https://me:hunter2@app.example.com", "", "user name"},
		{"https://münchen.example", "", "xn--"},
		{"https://app example.com", "", "not a URL"},
		{"http://[fe80::1%25eth0]", "", "not an IPv6"},
	} {
		t.Run(test.text, func(t *testing.T) {
			got, err := ParseOrigin(test.text)
			if test.wantErr == "" && err != nil || test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
				t.Fatalf("error %v, want %q", err, test.wantErr)
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the error contains the password")
			}
			if err == nil {
				if again, err := ParseOrigin(got); err != nil || again != got {
					t.Errorf("not stable: %q, %v", again, err)
				}
			}
		})
	}
}
