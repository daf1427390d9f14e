package contract_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

func TestLookup(t *testing.T) {
	const ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	for _, test := range []struct {
		name, method string
		request      proto.Message
		read, path   string
	}{
		{"a create is looked up in the list", "/meshtrade.wallet.transfer.v1.TransferService/CreateTransfer",
			&transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{Name: "ignored"}}, "ListTransfers", "/v1/wallet/transfers"},
		{"an action in its resource", "/meshtrade.wallet.account.v1.AccountService/OpenAccount",
			&accountv1.OpenAccountRequest{Name: "accounts/" + ulid}, "GetAccount", "/v1/accounts/" + ulid},
		{"an update in its resource", "/meshtrade.iam.group.v1.GroupService/UpdateGroup",
			&groupv1.UpdateGroupRequest{Group: &groupv1.Group{Name: "groups/" + ulid}}, "GetGroup", "/v1/groups/" + ulid},
		{"an action on a collection in the list", "/meshtrade.testing.ledger.token_tap.v1.TokenTapService/MintToken",
			&tokentapv1.MintTokenRequest{}, "ListTokenTaps", "/v1/testing/token_taps"},
		{"no name", "/meshtrade.wallet.account.v1.AccountService/OpenAccount", &accountv1.OpenAccountRequest{}, "", ""},
		{"a request of another type", "/meshtrade.wallet.account.v1.AccountService/OpenAccount", &groupv1.UpdateGroupRequest{}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			rpc, path := contract.ByName(test.method).Lookup(test.request)
			name := rpc[strings.LastIndexByte(rpc, '/')+1:]
			if name != test.read || path != test.path {
				t.Errorf("%s at %s, want %s at %s", name, path, test.read, test.path)
			}
		})
	}
}

func TestEveryWriteCanBeLookedUp(t *testing.T) {
	for _, method := range contract.Methods() {
		binding := method.Bindings[0]
		if !method.Write {
			continue
		}
		path, _, _ := strings.Cut(binding.Pattern("X"), ":")
		if found, _ := contract.Match(path); found == nil || found.Binding("GET") == nil {
			t.Errorf("%s: there is no GET of %s", method.Name(), path)
		}
	}
}

func TestResource(t *testing.T) {
	const ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	for _, test := range []struct {
		name, method string
		request      proto.Message
		path         string
		want         string
	}{
		{"an action", "/meshtrade.wallet.account.v1.AccountService/OpenAccount",
			&accountv1.OpenAccountRequest{Name: "accounts/" + ulid}, "/v1/accounts/" + ulid + ":open", "accounts/" + ulid},
		{"an update", "/meshtrade.iam.group.v1.GroupService/UpdateGroup",
			&groupv1.UpdateGroupRequest{Group: &groupv1.Group{Name: "groups/" + ulid}}, "/v1/groups/" + ulid, "groups/" + ulid},
		{"a create", "/meshtrade.wallet.transfer.v1.TransferService/CreateTransfer",
			&transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{Name: "ignored"}}, "/v1/wallet/transfers", ""},
		{"no request, and the path of another method", "/meshtrade.wallet.account.v1.AccountService/OpenAccount", nil, "/v1/groups/" + ulid, ""},
		{"no request, and no path of the contract", "/meshtrade.wallet.account.v1.AccountService/OpenAccount", nil, "/docs", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			method := contract.ByName(test.method)
			if got := method.Resource(test.request); got != test.want {
				t.Errorf("of the request: %q, want %q", got, test.want)
			}
			if got := method.ResourceIn(test.path); got != test.want {
				t.Errorf("in the path: %q, want %q", got, test.want)
			}
		})
	}
}
