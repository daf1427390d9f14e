package apidoc

import "testing"

func TestReadRoute(t *testing.T) {
	for template, want := range map[string]route{
		"/v1/groups":                     {path: "/v1/groups"},
		"/v1/market_orders/{number}":     {path: "/v1/market_orders/{number}"},
		"/v1/{name=iam/api_users/*}":     {"/v1/iam/api_users/{api_user}", "api_user", "name", "iam/api_users/"},
		"/v1/{group.name=groups/*}":      {"/v1/groups/{group}", "group", "group.name", "groups/"},
		"/v1/{name=transactions/*}/a:b":  {"/v1/transactions/{transaction}/a:b", "transaction", "name", "transactions/"},
		"/v1/{name=iam/policies/*}:open": {"/v1/iam/policies/{policy}:open", "policy", "name", "iam/policies/"},
	} {
		got, err := readRoute(template)
		if err != nil || got != want {
			t.Errorf("readRoute(%q) = %+v, %v; want %+v", template, got, err, want)
		}
	}
	for _, template := range []string{"/v1/{name", "/v1/{a}/{b}", "/v1/{name=a/*/b/*}", "/v1/{name=a/**}"} {
		if got, err := readRoute(template); err == nil {
			t.Errorf("readRoute(%q) = %+v, want an error", template, got)
		}
	}
}

func TestTagName(t *testing.T) {
	for service, want := range map[string]string{
		"APIUserService":     "API users",
		"GroupService":       "Groups",
		"UserProfileService": "User profiles",
		"TaxEntityService":   "Tax entities",
	} {
		if got := tagName(service); got != want {
			t.Errorf("tagName(%q) = %q, want %q", service, got, want)
		}
	}
}
