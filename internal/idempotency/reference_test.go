package idempotency_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
)

func TestReferenceIsDerivedFromTheKey(t *testing.T) {
	id := idempotency.ID{1}
	order := orderOf("accounts/1")
	reference := idempotency.SetReference(order, id)
	if reference == "" || order.GetLimitOrder().GetExternalReference() != reference {
		t.Fatalf("set %q, returned %q", order.GetLimitOrder().GetExternalReference(), reference)
	}
	// A value of today. Another would no longer be refused by Mesh as a duplicate.
	if want := "idem-rsiwl7ay6o3v6dvhjamuey6oaktsimea"; reference != want {
		t.Errorf("%s, want %s", reference, want)
	}
	if other := idempotency.SetReference(orderOf("accounts/1"), idempotency.ID{2}); other == reference {
		t.Error("two keys have the same reference")
	}
}

func TestReferenceOfTheClientStays(t *testing.T) {
	order := orderOf("accounts/1")
	order.LimitOrder.ExternalReference = "mine"
	want := proto.Clone(order)
	if reference := idempotency.SetReference(order, idempotency.ID{1}); reference != "" || !proto.Equal(order, want) {
		t.Errorf("set %q: %v", reference, order)
	}
}

// TestOnlyOrdersHaveAReference fills in the messages of each request, which must not change what the
// request is about.
func TestOnlyOrdersHaveAReference(t *testing.T) {
	var have []string
	for _, method := range contract.Methods() {
		if !method.Write {
			continue
		}
		request := dynamicpb.NewMessage(method.Descriptor.Input())
		for i := range request.Descriptor().Fields().Len() {
			if field := request.Descriptor().Fields().Get(i); field.Kind() == protoreflect.MessageKind && !field.IsList() {
				request.Mutable(field)
			}
		}
		before := proto.Clone(request)
		switch reference := idempotency.SetReference(request, idempotency.ID{1}); {
		case reference != "":
			have = append(have, method.Name())
		case !proto.Equal(request, before):
			t.Errorf("%s: the request was changed", method.Name())
		}
	}
	if !slices.Equal(have, []string{"/meshtrade.trading.limit_order.v1.LimitOrderService/CreateLimitOrder"}) {
		t.Errorf("these have a reference: %s", strings.Join(have, ", "))
	}
	if idempotency.SetReference(transferOf("1"), idempotency.ID{1}) != "" {
		t.Error("a transfer has a reference")
	}
}
