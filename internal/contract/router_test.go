package contract_test

import (
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		name, verb, path string
		// want is the name of the method, or "" if the path does not have the verb.
		want, segment, allow string
	}{
		{"a collection", "GET", "/v1/groups", "ListGroups", "", "GET, HEAD, POST"},
		{"another HTTP method", "POST", "/v1/groups", "CreateGroup", "", "GET, HEAD, POST"},
		{"HEAD is GET", "HEAD", "/v1/groups", "ListGroups", "", "GET, HEAD, POST"},
		{"a custom verb of a collection", "GET", "/v1/groups:search", "SearchGroups", "", "GET, HEAD"},
		{"a resource", "GET", "/v1/groups/X", "GetGroup", "X", "GET, HEAD, PUT"},
		{"a resource of a nested collection", "GET", "/v1/iam/api_users/X", "GetAPIUser", "X", "GET, HEAD"},
		{"a custom verb of a resource", "POST", "/v1/accounts/X:open", "OpenAccount", "X", "POST"},
		{"a custom verb is not part of the name", "GET", "/v1/accounts/X:open", "", "X", "POST"},
		{"a segment after the variable", "GET", "/v1/transactions/X/state", "GetTransactionState", "X", "GET, HEAD"},
		{"a segment after the variable, with a custom verb", "GET", "/v1/transactions/X/state:monitor", "MonitorTransactionState", "X", "GET, HEAD"},
		{"an escaped segment is not unescaped", "GET", "/v1/groups/a%2Fb%3Ac", "GetGroup", "a%2Fb%3Ac", "GET, HEAD, PUT"},
		{"an HTTP method without a route", "DELETE", "/v1/groups/X", "", "X", "GET, HEAD, PUT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path, segment := contract.Match(test.path)
			if path == nil {
				t.Fatal("the path is not found")
			}
			got := ""
			if binding := path.Binding(test.verb); binding != nil {
				got = string(binding.Method.Descriptor.Name())
			}
			if got != test.want || segment != test.segment || path.Allow() != test.allow {
				t.Errorf("%s %q, Allow %s; want %s %q, Allow %s", got, segment, path.Allow(), test.want, test.segment, test.allow)
			}
		})
	}
}

func TestMatchUnknownPath(t *testing.T) {
	for _, path := range []string{
		"", "/", "v1/groups", "/v1", "/v1/", "/v1/nothing", "/v1/groups/", "/v1/groups/:", "/v1/groups/X:", "/v1/groups/X/",
		"/v1/groups/X:unknown", "/v1/groups/X:y:z", "/v1/groups:", "/v1/groups:search:", "/v1/accounts/:open",
		"/v1//groups", "//v1/groups", "/v1/transactions/X:y/state", "/v1/transactions//state", "/V1/groups", "/v1/groups/X/y",
	} {
		if found, _ := contract.Match(path); found != nil {
			t.Errorf("%q is found", path)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { contract.Match("/v1/transactions/X/state:monitor") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
