package middleware

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRequestID(t *testing.T) {
	for _, test := range []struct {
		name string
		sent []string
		kept bool
	}{
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"1 character", []string{"a"}, true},
		{"every kind of character", []string{"Az09._-"}, true},
		{"128 characters", []string{strings.Repeat("a", 128)}, true},
		{"129 characters", []string{strings.Repeat("a", 129)}, false},
		{"space", []string{"a b"}, false},
		{"line break", []string{"a\nb"}, false},
		{"not ASCII", []string{"ä"}, false},
		{"two ids", []string{"a", "b"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for _, id := range test.sent {
				r.Header.Add("x-request-id", id)
			}
			w, next := httptest.NewRecorder(), new(capture)
			RequestID()(next).ServeHTTP(w, r)
			got := next.request.Header.Values("X-Request-Id")
			if len(got) != 1 || w.Header().Get("X-Request-Id") != got[0] {
				t.Fatalf("request has %q, response %q; want the same single id", got, w.Header().Values("X-Request-Id"))
			}
			if test.kept && got[0] != test.sent[0] {
				t.Errorf("id %q, want the client's", got[0])
			}
			if !test.kept && len(got[0]) != 26 {
				t.Errorf("id %q, want a ULID", got[0])
			}
		})
	}
}
