package contract_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/proto"
)

func methods(t *testing.T) map[string]*contract.Method {
	t.Helper()
	list := contract.Methods()
	byName := make(map[string]*contract.Method)
	for _, method := range list {
		byName[string(method.Descriptor.Name())] = method
	}
	return byName
}

func TestCheck(t *testing.T) {
	if err := contract.Check(); err != nil {
		t.Error(err)
	}
}

func TestMethods(t *testing.T) {
	for _, test := range []struct {
		name                             string
		write, public, verified, streams bool
		roles                            int
		routes                           []string
	}{
		{"GetAPIUser", false, false, false, false, 4, []string{"GET /v1/iam/api_users/*"}},
		{"CreateTransfer", true, false, true, false, 2, []string{"POST /v1/wallet/transfers"}},
		{"CancelLimitOrder", true, false, false, false, 2, []string{"POST /v1/limit_orders/*:cancel"}},
		{"CalculateTransferFee", false, false, true, false, 4, []string{"POST /v1/wallet/transfers:calculateFee"}},
		{"MintToken", true, true, false, false, 0, []string{"POST /v1/testing/token_taps:mint"}},
		{"MonitorLimitOrder", false, false, false, true, 4, []string{"GET /v1/limit_orders/*:monitor", "GET /v1/limit_orders:monitor"}},
		{"UpdateGroup", true, false, false, false, 2, []string{"PUT /v1/groups/*"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := methods(t)[test.name]
			if m.Write != test.write || m.Public != test.public || m.Verified != test.verified || m.Streams() != test.streams || len(m.Roles) != test.roles {
				t.Errorf("%+v", m)
			}
			var routes []string
			for _, binding := range m.Bindings {
				routes = append(routes, binding.Verb+" "+binding.Pattern("*"))
			}
			if strings.Join(routes, ", ") != strings.Join(test.routes, ", ") {
				t.Errorf("routes %q", routes)
			}
		})
	}
}

func TestPathValue(t *testing.T) {
	all := methods(t)
	for name, want := range map[string]string{"GetGroup": "groups/X", "GetAPIUser": "iam/api_users/X", "GetMarketOrder": "X"} {
		if got := all[name].Bindings[0].PathValue("X"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestEveryServiceIsListed compares the list of services with the descriptors that are linked in.
func TestEveryServiceIsListed(t *testing.T) {
	listed := make(map[protoreflect.FullName]bool)
	for _, service := range proto.Services() {
		listed[service.Descriptor.FullName()] = true
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(file.Package()), "meshtrade.") {
			for i := range file.Services().Len() {
				if name := file.Services().Get(i).FullName(); !listed[name] {
					t.Errorf("%s is not listed", name)
				}
			}
		}
		return true
	})
}
