package e2e

import (
	"net/http"
	"net/url"
	"testing"
)

// TestQuickStart follows the quick start of the Mesh documentation over REST: the life cycle of an API
// user.
func TestQuickStart(t *testing.T) {
	p := start(t, "--sandbox")
	admin := credential(t, "Broker Admin")

	want := func(a answer, status int, field, value string) map[string]any {
		t.Helper()
		if a.status != status {
			t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
		}
		object := a.object(t)
		if field != "" && object[field] != value {
			t.Fatalf("%s is %v, want %s: %s", field, object[field], value, a.body)
		}
		return object
	}

	created := want(p.call(t, "POST", "/v1/iam/api_users", as(admin),
		`{"owner": "`+admin.Group+`", "displayName": "Quick Start", "roles": ["`+admin.Group+`/roles/3000000"]}`),
		http.StatusOK, "state", "API_USER_STATE_INACTIVE")
	name, key := created["name"].(string), created["apiKey"].(string)
	own := http.Header{"Authorization": {"Bearer " + key}, "X-Group": {admin.Group}}

	want(p.call(t, "GET", "/v1/iam/api_users", own, ""), http.StatusUnauthorized, "", "")

	want(p.call(t, "POST", "/v1/"+name+":activate", as(admin), ""), http.StatusOK, "state", "API_USER_STATE_ACTIVE")
	want(p.call(t, "POST", "/v1/"+name+":activate", as(admin), ""), http.StatusBadRequest, "", "")

	found := want(p.call(t, "GET", "/v1/iam/api_users:search?"+url.Values{"displayName": {"Quick"}}.Encode(), own, ""),
		http.StatusOK, "", "")["apiUsers"].([]any)
	if len(found) != 1 || found[0].(map[string]any)["name"] != name {
		t.Fatalf("the search found %v", found)
	}
	if again := want(p.call(t, "GET", "/v1/"+name, own, ""), http.StatusOK, "name", name); again["apiKey"] != nil {
		t.Fatal("the key is returned again")
	}

	want(p.call(t, "POST", "/v1/"+name+":deactivate", as(admin), "{}"), http.StatusOK, "state", "API_USER_STATE_INACTIVE")
	want(p.call(t, "GET", "/v1/iam/api_users", own, ""), http.StatusUnauthorized, "", "")
}

func TestSandboxResponsesHaveTheEnvironmentHeader(t *testing.T) {
	p := start(t, "--sandbox")
	for _, path := range []string{"/v1/groups", "/healthz", "/nothing"} {
		if got := p.call(t, "GET", path, nil, "").header.Get("X-Mesh-Environment"); got != "sandbox" {
			t.Errorf("%s: X-Mesh-Environment is %q", path, got)
		}
	}
}
