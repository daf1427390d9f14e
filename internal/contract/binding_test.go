package contract

import (
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
)

func TestBind(t *testing.T) {
	for template, want := range map[string]struct{ field, pattern, value string }{
		"/v1/groups":                     {"", "/v1/groups", ""},
		"/v1/market_orders/{number}":     {"number", "/v1/market_orders/X", "X"},
		"/v1/{name=iam/api_users/*}":     {"name", "/v1/iam/api_users/X", "iam/api_users/X"},
		"/v1/{group.name=groups/*}":      {"group.name", "/v1/groups/X", "groups/X"},
		"/v1/{name=transactions/*}/a:b":  {"name", "/v1/transactions/X/a:b", "transactions/X"},
		"/v1/{name=iam/policies/*}:open": {"name", "/v1/iam/policies/X:open", "iam/policies/X"},
	} {
		t.Run(template, func(t *testing.T) {
			b, err := bind(nil, get(template))
			if err != nil {
				t.Fatal(err)
			}
			if b.Verb != "GET" || b.Template != template {
				t.Errorf("%s %s, want GET %s", b.Verb, b.Template, template)
			}
			if b.PathField != want.field || b.Pattern("X") != want.pattern || b.PathValue("X") != want.value {
				t.Errorf("field %q, %s, %q; want %q, %s, %q", b.PathField, b.Pattern("X"), b.PathValue("X"), want.field, want.pattern, want.value)
			}
		})
	}
}

func TestBindRejectsUnsupportedRules(t *testing.T) {
	for name, rule := range map[string]*annotations.HttpRule{
		"a rule without a path":      {},
		"an unclosed variable":       get("/v1/{name"),
		"two variables":              get("/v1/{a}/{b}"),
		"a variable of two segments": get("/v1/{name=a/*/b/*}"),
		"a variable of any segments": get("/v1/{name=a/**}"),
		"a * outside the variable":   get("/v1/*/{name}"),
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := bind(nil, rule); err == nil {
				t.Errorf("got %s %s, want an error", b.Verb, b.pattern)
			}
		})
	}
}

func get(template string) *annotations.HttpRule {
	return &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: template}}
}
