package middleware

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
)

func developer() credentials.Credentials {
	return credentials.Credentials{APIKey: testKey, Group: testGroup}
}

func TestLocalHost(t *testing.T) {
	for _, test := range []struct {
		host string
		own  []string
		ok   bool
	}{
		{"localhost", nil, true},
		{"LocalHost:8080", nil, true},
		{"127.0.0.1", nil, true},
		{"127.0.0.1:65535", nil, true},
		{"127.255.255.255:1", nil, true},
		{"[::1]", nil, true},
		{"[::1]:8080", nil, true},
		{"gateway:8080", []string{"Gateway"}, true},
		{"gateway:8080", nil, false},
		{"", nil, false},
		{"126.255.255.255", nil, false},
		{"128.0.0.0", nil, false},
		{"0.0.0.0:8080", nil, false},
		{"[::]:8080", nil, false},
		{"[::2]:8080", nil, false},
		{"[::ffff:127.0.0.1]:8080", nil, false},
		{"127.1", nil, false},
		{"app.localhost:8080", nil, false},
		{"localhost.evil.com", nil, false},
		{"127.0.0.1.evil.com", nil, false},
		{"localhost.", nil, false},
		{"localhost:80@evil.com", nil, false},
		{"::1", nil, false},
		{"evil.com", nil, false},
	} {
		t.Run(test.host, func(t *testing.T) {
			w, next := httptest.NewRecorder(), new(capture)
			Local(developer(), test.own...)(next).ServeHTTP(w, headers(httptest.NewRequest(http.MethodGet, "/", nil), "Host", test.host))
			if (next.request != nil) != test.ok {
				t.Fatalf("reached the handler: %t", next.request != nil)
			}
			if !test.ok {
				wantError(t, w, http.StatusMisdirectedRequest, apierror.MisdirectedRequest)
			}
		})
	}
}

func TestLocalCrossSite(t *testing.T) {
	for _, test := range []struct {
		name string
		sent []string
		tls  bool
		ok   bool
	}{
		{"a program", nil, false, true},
		{"address bar", []string{"Sec-Fetch-Site", "none"}, false, true},
		{"own page", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:8080"}, false, true},
		{"own page over TLS", []string{"Origin", "https://localhost:8080"}, true, true},
		{"own page, older browser", []string{"Origin", "http://localhost:8080"}, false, true},
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, false, false},
		{"another port", []string{"Sec-Fetch-Site", "same-site"}, false, false},
		{"an unknown value", []string{"Sec-Fetch-Site", "other"}, false, false},
		{"two values", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Site", "cross-site"}, false, false},
		{"another origin", []string{"Origin", "https://evil.com"}, false, false},
		{"another port's origin", []string{"Origin", "http://localhost:8081"}, false, false},
		{"another local name", []string{"Origin", "http://127.0.0.1:8080"}, false, false},
		{"another scheme", []string{"Origin", "https://localhost:8080"}, false, false},
		{"null", []string{"Origin", "null"}, false, false},
		{"same-origin, but not the origin", []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://evil.com"}, false, false},
		{"another site with its own key", []string{"Sec-Fetch-Site", "cross-site", "X-Api-Key", otherKey}, false, false},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(test.name+" "+method, func(t *testing.T) {
				r := headers(httptest.NewRequest(method, "/", nil), append(test.sent, "Host", "localhost:8080")...)
				if test.tls {
					r.TLS = &tls.ConnectionState{}
				}
				w, next := httptest.NewRecorder(), new(capture)
				Local(developer())(next).ServeHTTP(w, r)
				if (next.request != nil) != test.ok {
					t.Fatalf("reached the handler: %t", next.request != nil)
				}
				if !test.ok {
					wantError(t, w, http.StatusForbidden, apierror.CrossSite)
				}
			})
		}
	}
}

func TestLocalCredentials(t *testing.T) {
	for _, test := range []struct {
		name       string
		sent       []string
		key, group string
	}{
		{"none", nil, testKey, testGroup},
		{"own group", []string{"X-Group", otherGroup}, testKey, otherGroup},
		{"own key", []string{"X-Api-Key", otherKey}, otherKey, ""},
		{"own key and group", []string{"X-Api-Key", otherKey, "X-Group", otherGroup}, otherKey, otherGroup},
		{"own bearer", []string{"Authorization", "Bearer " + otherKey}, "", ""},
		{"another scheme", []string{"Authorization", "Basic eDp5"}, "", ""},
		{"an empty key is not replaced", []string{"X-Api-Key", ""}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			next := new(capture)
			Local(developer())(next).ServeHTTP(httptest.NewRecorder(),
				headers(httptest.NewRequest(http.MethodGet, "/", nil), append(test.sent, "Host", "localhost")...))
			if got := next.request.Header.Get("X-Api-Key"); got != test.key {
				t.Errorf("key %q, want %q", got, test.key)
			}
			if got := next.request.Header.Get("X-Group"); got != test.group {
				t.Errorf("group %q, want %q", got, test.group)
			}
		})
	}
}
