package apidoc

import (
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

func TestRouteOf(t *testing.T) {
	for _, test := range []struct {
		name, method string
		want         route
	}{
		{"no variable", "iam.group.v1.GroupService/ListGroups", route{path: "/v1/groups"}},
		{"a variable for a whole field", "trading.market_order.v1.MarketOrderService/GetMarketOrder", route{path: "/v1/market_orders/{number}"}},
		{"a resource", "iam.api_user.v1.APIUserService/GetAPIUser", route{"/v1/iam/api_users/{api_user}", "api_user", "iam/api_users/"}},
		{"a resource in a nested field", "iam.group.v1.GroupService/UpdateGroup", route{"/v1/groups/{group}", "group", "groups/"}},
		{"segments and a custom verb after a resource", "ledger.transaction.v1.TransactionService/MonitorTransactionState", route{"/v1/transactions/{transaction}/state:monitor", "transaction", "transactions/"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			method := contract.ByName("/meshtrade." + test.method)
			if method == nil {
				t.Fatal("no such method")
			}
			got, err := routeOf(method.Bindings[0])
			if err != nil || got != test.want {
				t.Errorf("%+v, %v; want %+v", got, err, test.want)
			}
		})
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

func TestSingular(t *testing.T) {
	for plural, want := range map[string]string{"groups": "group", "policies": "policy"} {
		if got := singular(plural); got != want {
			t.Errorf("singular(%q) = %q, want %q", plural, got, want)
		}
	}
}
