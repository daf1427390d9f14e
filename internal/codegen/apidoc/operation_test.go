package apidoc

import (
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// TestOperations checks the operations of a method with two bindings, by the names that the plugin
// gives them.
func TestOperations(t *testing.T) {
	method := contract.ByName("/meshtrade.trading.limit_order.v1.LimitOrderService/MonitorLimitOrder")
	if method == nil {
		t.Fatal("no such method")
	}
	all, err := operations([]*contract.Method{method})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]struct{ id, path string }{
		"LimitOrderService_MonitorLimitOrder":   {"MonitorLimitOrder", "/v1/limit_orders/{limit_order}:monitor"},
		"LimitOrderService_MonitorLimitOrder_1": {"MonitorLimitOrder_2", "/v1/limit_orders:monitor"},
	} {
		op, ok := all[key]
		if !ok || op.id != want.id || op.route.path != want.path {
			t.Errorf("%s is %s %s, want %s %s", key, op.id, op.route.path, want.id, want.path)
		}
	}
	if len(all) != 2 {
		t.Errorf("%d operations, want 2", len(all))
	}
}

func TestOperationIDsAreUnique(t *testing.T) {
	method := contract.Methods()[0]
	if all, err := operations([]*contract.Method{method, method}); err == nil {
		t.Errorf("a method listed twice gives %d operations, want an error", len(all))
	}
}
