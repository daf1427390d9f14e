package examples_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
)

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		template, path string
		want           map[string]string // nil where it does not match
	}{
		{"/v1/groups", "/v1/groups", map[string]string{}},
		{"/v1/groups", "/v1/groups:search", nil},
		{"/v1/groups/{group}", "/v1/groups/A", map[string]string{"group": "A"}},
		{"/v1/groups/{group}", "/v1/groups/A:open", nil},
		{"/v1/groups/{group}:open", "/v1/groups/A:open", map[string]string{"group": "A"}},
		{"/v1/groups/{group}", "/v1/groups/A/client", nil},
		{"/v1/a.b", "/v1/aXb", nil},
	} {
		got, ok := examples.Match(test.template, test.path)
		if ok != (test.want != nil) || ok && !maps.Equal(got, test.want) {
			t.Errorf("Match(%s, %s) = %v, %v", test.template, test.path, got, ok)
		}
	}
}

// TestDo checks the headers of the request.
func TestDo(t *testing.T) {
	var sent *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { sent = r }))
	defer server.Close()
	for _, test := range []struct {
		name             string
		header           map[string]string
		key, accept, org string
	}{
		{"as the test key", nil, examples.Key, "", examples.Group},
		{"with a header", map[string]string{"Accept": "text/csv"}, examples.Key, "text/csv", examples.Group},
		{"in another group", map[string]string{"X-Group": "groups/A"}, examples.Key, "", "groups/A"},
		{"without credentials", map[string]string{"X-Api-Key": "", "X-Group": ""}, "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			call := examples.Call{Method: "GET", Path: "/v1/groups", Header: test.header}
			response, err := call.Do(t.Context(), server.Client(), server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if sent.Header.Get("X-Api-Key") != test.key || sent.Header.Get("Accept") != test.accept || sent.Header.Get("X-Group") != test.org {
				t.Errorf("sent %v", sent.Header)
			}
			if call.Public() != (test.key == "") {
				t.Errorf("public: %v", call.Public())
			}
		})
	}
}

// TestBodiesAreJSON checks all bodies except those that are deliberately of another type.
func TestBodiesAreJSON(t *testing.T) {
	for _, call := range examples.Calls() {
		if call.Body != "" && call.Status != http.StatusUnsupportedMediaType && !json.Valid([]byte(call.Body)) {
			t.Errorf("%s %s: %.100s", call.Method, call.Path, call.Body)
		}
	}
}
