package gateway_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

const notOpen = "/v1/accounts/00000000000000000000000005"

func TestFields(t *testing.T) {
	s := newStreaming(t)
	for _, test := range []struct{ name, path, want string }{
		{"one", notOpen + "?fields=number", `{"number":"1000005"}`},
		{"several, in the answer's order", notOpen + "?fields=number,name", `{"name":"accounts/00000000000000000000000005","number":"1000005"}`},
		{"given twice", notOpen + "?fields=number&fields=name", `{"name":"accounts/00000000000000000000000005","number":"1000005"}`},
		{"in proto spelling", notOpen + "?fields=display_name", `{"displayName":"Not open yet"}`},
		{"through a list", "/v1/groups?fields=groups.displayName", `{"groups":[{"displayName":"Harbour Brokers"},{"displayName":"Lighthouse Trading"},{"displayName":"Individual"}]}`},
		{"beside a parameter", "/v1/groups:search?displayName=harbour&fields=groups.displayName", `{"groups":[{"displayName":"Harbour Brokers"}]}`},
		{"the whole swallows its part", "/v1/groups/" + strings.TrimPrefix(sandbox.Seeded()[0].Group, "groups/") + "?fields=displayName,*,name", s.get(t, "/v1/"+sandbox.Seeded()[0].Group)},
		{"a field that is not set", notOpen + "?fields=state", `{}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := s.get(t, test.path); got != test.want {
				t.Errorf("got, want\n%s\n%s", got, test.want)
			}
		})
	}
}

func TestFieldsThatDoNotExist(t *testing.T) {
	s := newStreaming(t)
	for _, test := range []struct {
		name, verb, path string
		want             string
	}{
		{"unknown", http.MethodGet, notOpen + "?fields=nam", `"nam\" is unknown; \"nam\" is not one of name, `},
		{"unknown, further in", http.MethodGet, notOpen + "?fields=name,balances.amout", `"balances.amout\" is unknown; \"amout\" is not one of amount, `},
		{"unknown, after the whole", http.MethodGet, notOpen + "?fields=balances,balances.amout", `"balances.amout\" is unknown`},
		{"too deep", http.MethodGet, notOpen + "?fields=number.digits", `"number.digits\" goes too deep: number has no fields of its own`},
		{"empty", http.MethodGet, notOpen + "?fields=", "is empty; list fields of the response"},
		{"with other faults, in one answer", http.MethodGet, notOpen + "?fields=nam&colour=red", `"field":"colour"`},
		{"a name misspelt", http.MethodGet, notOpen + "?field=name", "this method takes fields"},
		{"of a method that writes", http.MethodPost, notOpen + ":open?fields=ledgerTransaction", "unknown query parameter"},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, body := s.do(t, test.verb, test.path)
			if response.StatusCode != http.StatusBadRequest || !strings.Contains(body, test.want) {
				t.Errorf("%s: %s\nwant 400 with %s", response.Status, body, test.want)
			}
		})
	}
}

func TestContentLengthWithFields(t *testing.T) {
	s := newStreaming(t)
	for _, verb := range []string{http.MethodGet, http.MethodHead} {
		response, _ := s.do(t, verb, notOpen+"?fields=number")
		if got, want := response.Header.Get("Content-Length"), strconv.Itoa(len(`{"number":"1000005"}`+"\n")); got != want {
			t.Errorf("%s: Content-Length is %s, want %s", verb, got, want)
		}
	}
}

func TestErrorsIgnoreFields(t *testing.T) {
	s := newStreaming(t)
	if _, body := s.do(t, http.MethodGet, "/v1/accounts/7ZZZZZZZZZZZZZZZZZZZZZZZZZ?fields=number"); !strings.Contains(body, `"code":5`) {
		t.Error(body)
	}
	t.Run("on a stream", func(t *testing.T) {
		_, reader := s.open(t, s.url+"?fields=state", "*/*", wire.SandboxFaultHeader, "drop-after-send")
		s.tick(t, 1) // the connection breaks with the second message
		all, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"error":{"code":14,`; !strings.Contains(string(all), want) {
			t.Errorf("%s, want %s in it", all, want)
		}
	})
}

func TestFieldsOfAStream(t *testing.T) {
	for _, accept := range []string{"application/x-ndjson", "text/event-stream"} {
		t.Run(accept, func(t *testing.T) {
			s := newStreaming(t)
			_, reader := s.open(t, s.url+"?fields=state", accept)
			if accept == "text/event-stream" {
				wantEvent(t, reader, "message", `{"state":"TRANSACTION_STATE_DRAFT"}`)
				return
			}
			if line, err := reader.ReadString('\n'); err != nil || line != `{"state":"TRANSACTION_STATE_DRAFT"}`+"\n" {
				t.Errorf("%s %v", line, err)
			}
		})
	}
}

// do makes a request as the sandbox's administrator.
func (s streaming) do(t *testing.T, verb, path string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), verb, s.base()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	caller := sandbox.Seeded()[0]
	request.Header = http.Header{"X-Api-Key": {caller.APIKey}, "X-Group": {caller.Group}}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// get returns the body of an answer with status 200.
func (s streaming) get(t *testing.T, path string) string {
	t.Helper()
	response, body := s.do(t, http.MethodGet, path)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", response.Status, body)
	}
	return strings.TrimSpace(body)
}

// base is the URL of the gateway.
func (s streaming) base() string { return s.url[:strings.Index(s.url, "/v1/")] }
