package conformance_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/e2e/conformance"
)

// document describes two operations. One of them is a stream.
const document = `{
  "openapi": "3.1.0",
  "info": {"title": "test", "version": "1"},
  "paths": {
    "/v1/things": {"post": {
      "operationId": "CreateThing",
      "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
      "responses": {
        "200": {"description": "", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
        "400": {"$ref": "#/components/responses/Error"},
        "404": {"$ref": "#/components/responses/Error"},
        "default": {"$ref": "#/components/responses/Error"}
      }
    }},
    "/v1/things/{thing}:monitor": {"get": {
      "operationId": "MonitorThing",
      "parameters": [{"name": "thing", "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[a-z]+$"}}],
      "responses": {
        "200": {"description": "", "content": {
          "application/x-ndjson": {"schema": {"$ref": "#/components/schemas/Thing"}},
          "text/event-stream": {"schema": {"type": "string"}}
        }},
        "default": {"$ref": "#/components/responses/Error"}
      }
    }}
  },
  "components": {
    "responses": {"Error": {"description": "", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}}},
    "schemas": {
      "Thing": {"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string", "maxLength": 5},
        "part": {"$ref": "#/components/schemas/Part", "description": "next to a reference"}
      }},
      "Part": {"type": "object", "properties": {"size": {"type": "integer"}}},
      "Status": {"type": "object", "required": ["code"], "properties": {"code": {"type": "integer"}, "reason": {"type": "string"}}}
    }
  }
}`

// TestMismatchesAreFound uses a server that differs from the document in one respect per case.
func TestMismatchesAreFound(t *testing.T) {
	const create, monitor = "POST /v1/things", "GET /v1/things/lamp:monitor"
	const good = `{"name": "lamp", "part": {"size": 1}}`
	for _, test := range []struct {
		name          string
		call, body    string
		status        int
		media, answer string
		header        string
		want          string // "" for no mismatch
	}{
		{"as documented", create, good, 200, "application/json", good, "", ""},
		{"an error as documented", create, `{}`, 404, "application/json", `{"code": 5}`, "", ""},
		{"an undocumented status", create, good, 409, "application/json", `{"code": 6}`, "", "the status is not documented"},
		{"an undocumented media type", create, good, 200, "text/plain", good, "", "the media type"},
		{"a missing property", create, good, 200, "application/json", `{}`, "", "missing property"},
		{"an undocumented property", create, good, 200, "application/json", `{"name": "lamp", "weight": 1}`, "", "weight"},
		{"an undocumented property in a referenced schema", create, good, 200, "application/json", `{"name": "lamp", "part": {"weight": 1}}`, "", "weight"},
		{"a value that violates a rule", create, good, 200, "application/json", `{"name": "lantern"}`, "", "maxLength"},
		{"an error with another schema", create, good, 404, "application/json", `{"message": "no"}`, "", "missing property"},
		{"an undocumented header", create, good, 200, "application/json", good, "X-Surprise", "X-Surprise"},
		{"an invalid request that the server accepts", create, `{"name": "lantern"}`, 200, "application/json", good, "", "accepted"},
		{"a valid request that the server rejects as invalid", create, good, 400, "application/json", `{"code": 3, "reason": "INVALID_REQUEST"}`, "", "valid according to the document"},
		{"an invalid request that the server rejects as invalid", create, `{"name": "lantern"}`, 400, "application/json", `{"code": 3, "reason": "INVALID_REQUEST"}`, "", ""},
		{"an invalid request with another error", create, `{"name": "lantern"}`, 404, "application/json", `{"code": 5}`, "", ""},
		{"an invalid path that the server accepts", "GET /v1/things/LAMP:monitor", "", 200, "application/x-ndjson", "", "", "accepted"},
		{"a stream as documented", monitor, "", 200, "application/x-ndjson", `{"name": "a"}` + "\n" + `{"name": "b"}` + "\n", "", ""},
		{"a stream that fails as documented", monitor, "", 200, "application/x-ndjson", `{"name": "a"}` + "\n" + `{"error":{"code": 14}}` + "\n", "", ""},
		{"an invalid line", monitor, "", 200, "application/x-ndjson", `{"name": "a"}` + "\n" + `{"name": 1}` + "\n", "", "got number, want string"},
		{"an invalid error in a line", monitor, "", 200, "application/x-ndjson", `{"error":{"message": "no"}}` + "\n", "", "missing property"},
		{"events as documented", monitor, "", 200, "text/event-stream", "retry: 1\n\nid: 1\nevent: message\ndata: {\"name\": \"a\"}\n\nevent: end\ndata: {}\n\n", "", ""},
		{"an invalid event", monitor, "", 200, "text/event-stream", "event: message\ndata: {\"name\": 1}\n\n", "", "got number, want string"},
		{"an event with an undocumented name", monitor, "", 200, "text/event-stream", "event: surprise\ndata: {}\n\n", "", "surprise"},
		{"an undocumented operation", "GET /v2/things", "", 200, "text/plain", "", "X-Surprise", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.media)
				w.Header()["X-Mesh-Environment"] = []string{"sandbox"}
				if test.header != "" {
					w.Header().Set(test.header, "1")
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.answer)
			}))
			defer server.Close()
			watch := newWatch(t)
			method, path, _ := strings.Cut(test.call, " ")
			call(t, watch, method, server.URL+path, test.body)

			got := strings.Join(watch.Mismatches(), "\n")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

func newWatch(t *testing.T) *conformance.Watch {
	t.Helper()
	// All responses document the header that identifies the sandbox.
	described := strings.ReplaceAll(document, `{"description": "", "content"`, `{"description": "", "headers": {"X-Mesh-Environment": {"schema": {"type": "string"}}}, "content"`)
	watch, err := conformance.New([]byte(described))
	if err != nil {
		t.Fatal(err)
	}
	return watch
}

func call(t *testing.T, watch *conformance.Watch, method, url, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := (&http.Client{Transport: watch.Transport(http.DefaultTransport)}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
}

func TestReport(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Mesh-Environment", "sandbox")
		_, _ = io.WriteString(w, `{"name": "lamp"}`)
	}))
	defer server.Close()
	watch := newWatch(t)
	call(t, watch, "POST", server.URL+"/v1/things", `{"name": "lamp"}`)
	if got, want := watch.Report(), "operations 1/2 exercised, statuses 1/4 seen, requests validated 1, responses validated 1, 0 mismatches"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got, want := strings.Join(watch.Unseen(), ", "), "CreateThing 400, CreateThing 404, MonitorThing 200"; got != want {
		t.Errorf("unseen are %s, want %s", got, want)
	}
}
