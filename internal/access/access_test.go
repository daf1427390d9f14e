package access_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

const (
	getGroup       = "/meshtrade.iam.group.v1.GroupService/GetGroup"
	createGroup    = "/meshtrade.iam.group.v1.GroupService/CreateGroup"
	createTransfer = "/meshtrade.wallet.transfer.v1.TransferService/CreateTransfer"
	calculateFee   = "/meshtrade.wallet.transfer.v1.TransferService/CalculateTransferFee"
)

var (
	office = netip.MustParsePrefix("10.0.0.0/8")
	branch = netip.MustParsePrefix("2001:db8::/32")
)

func compile(t *testing.T, config access.Config) *access.Rules {
	t.Helper()
	rules, err := access.Compile(config)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// wantReason checks the reason of an error, or that there is none.
func wantReason(t *testing.T, err error, want apierror.Reason) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var got string
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetMetadata()["sent"] == "false" {
			got = info.GetReason()
		}
	}
	if got != string(want) || status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v with reason %q, want %s", err, got, want)
	}
}

func TestMethod(t *testing.T) {
	for _, test := range []struct {
		name   string
		config access.Config
		rpc    string
		want   apierror.Reason
	}{
		{"no rules", access.Config{}, createTransfer, ""},
		{"a disabled method", access.Config{Disabled: []access.Name{"CreateTransfer"}}, createTransfer, apierror.MethodDisabled},
		{"another method of its service", access.Config{Disabled: []access.Name{"CreateTransfer"}}, calculateFee, ""},
		{"a method of a disabled service", access.Config{Disabled: []access.Name{"TransferService"}}, calculateFee, apierror.MethodDisabled},
		{"a method of another service", access.Config{Disabled: []access.Name{"TransferService"}}, getGroup, ""},
		{"a write in read-only mode", access.Config{ReadOnly: true}, createGroup, apierror.ReadOnly},
		{"a read in read-only mode", access.Config{ReadOnly: true}, getGroup, ""},
		{"a read with POST in read-only mode", access.Config{ReadOnly: true}, calculateFee, ""},
		{"disabled and read-only", access.Config{ReadOnly: true, Disabled: []access.Name{"CreateGroup"}}, createGroup, apierror.MethodDisabled},
		{"a request to the gateway itself", access.Config{ReadOnly: true}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules := compile(t, test.config)
			wantReason(t, rules.Method(test.rpc), test.want)
			if serves := rules.Serves(test.rpc); serves != (test.want == "") {
				t.Errorf("serves: %t", serves)
			}
		})
	}
}

// TestReadOnlyIsTheContracts compares what read-only mode serves with the contract.
func TestReadOnlyIsTheContracts(t *testing.T) {
	served := make(map[string]bool)
	for _, method := range compile(t, access.Config{ReadOnly: true}).Methods() {
		served[method.Name()] = true
	}
	for _, method := range contract.Methods() {
		if served[method.Name()] == method.Write {
			t.Errorf("%s (write: %t) is served: %t", method.Name(), method.Write, served[method.Name()])
		}
	}
}

func TestAddress(t *testing.T) {
	both := []netip.Prefix{office, branch}
	for _, test := range []struct {
		name     string
		networks []netip.Prefix
		client   string
		want     apierror.Reason
	}{
		{"no networks", nil, "192.0.2.1", ""},
		{"the first address", both, "10.0.0.0", ""},
		{"the last address", both, "10.255.255.255", ""},
		{"the address before", both, "9.255.255.255", apierror.AddressNotAllowed},
		{"the address after", both, "11.0.0.0", apierror.AddressNotAllowed},
		{"IPv6", both, "2001:db8::1", ""},
		{"IPv6 of another network", both, "2001:db9::1", apierror.AddressNotAllowed},
		{"IPv4 as IPv6", both, "::ffff:10.0.0.1", ""},
		{"a network of IPv4 as IPv6", []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}, "10.0.0.1", ""},
		{"an address with a zone", []netip.Prefix{netip.MustParsePrefix("fe80::/10")}, "fe80::1%eth0", ""},
		{"no address", both, "", apierror.AddressNotAllowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, _ := netip.ParseAddr(test.client)
			wantReason(t, compile(t, access.Config{Networks: test.networks}).Address(client), test.want)
		})
	}
}

// rule returns the parsed rule of a key.
func rule(t testing.TB, text string) access.Key {
	t.Helper()
	var key access.Key
	if err := key.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKey(t *testing.T) {
	const apiKey = "the key"
	sum := sha256.Sum256([]byte(apiKey))
	hash, zeros := hex.EncodeToString(sum[:]), strings.Repeat("0", 64)
	inOffice, outside := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("192.0.2.1")
	const transfers = " meshtrade.wallet.transfer.v1.TransferService"
	for _, test := range []struct {
		name       string
		rules      []string
		listedOnly bool
		rpc        string
		client     netip.Addr
		want       apierror.Reason
	}{
		{"no rules", nil, false, getGroup, outside, ""},
		{"a method of the list", []string{hash + transfers}, false, createTransfer, outside, ""},
		{"another method", []string{hash + transfers}, false, getGroup, outside, apierror.KeyNotAllowed},
		{"a second name in the list", []string{hash + transfers + " GetGroup"}, false, getGroup, outside, ""},
		{"a ticket for a stream", []string{hash + transfers}, false, "", outside, ""},
		{"the shortest hash", []string{hash[:16] + transfers}, false, getGroup, outside, apierror.KeyNotAllowed},
		{"upper case", []string{strings.ToUpper(hash) + transfers}, false, getGroup, outside, apierror.KeyNotAllowed},
		{"base64", []string{base64.StdEncoding.EncodeToString(sum[:]) + transfers}, false, getGroup, outside, apierror.KeyNotAllowed},
		{"a hash with the same beginning", []string{hash[:16] + zeros[16:] + transfers}, false, getGroup, outside, ""},
		{"another key", []string{zeros + transfers}, false, getGroup, outside, ""},
		{"another key, and only listed ones", []string{zeros}, true, getGroup, outside, apierror.KeyNotAllowed},
		{"no key is listed", nil, true, getGroup, outside, apierror.KeyNotAllowed},
		{"a listed key without a list of methods", []string{zeros, hash}, true, getGroup, outside, ""},
		{"the network of the key", []string{hash + " from 192.0.2.0/31 10.0.0.0/8"}, false, getGroup, inOffice, ""},
		{"the address of the key", []string{hash + " from 192.0.2.1"}, false, getGroup, outside, ""},
		{"another network", []string{hash + " from 10.0.0.0/8"}, false, getGroup, outside, apierror.AddressNotAllowed},
		{"a method of the list from another network", []string{hash + transfers + " from 10.0.0.0/8"}, false, createTransfer, outside, apierror.AddressNotAllowed},
		{"another method from the network", []string{hash + transfers + " from 10.0.0.0/8"}, false, getGroup, inOffice, apierror.KeyNotAllowed},
		{"a ticket from another network", []string{hash + " from 10.0.0.0/8"}, false, "", outside, apierror.AddressNotAllowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := access.Config{ListedKeysOnly: test.listedOnly}
			for _, text := range test.rules {
				config.Keys = append(config.Keys, rule(t, text))
			}
			wantReason(t, compile(t, config).Key(sum, test.rpc, test.client), test.want)
		})
	}
}

func TestInvalidRulesOfKeys(t *testing.T) {
	const apiKey = "WyVaWXfBkCzZcwvPPxuiOZzuYuqZpaWAEPOUwT5tLqs" // looks like any key
	zeros := strings.Repeat("0", 64)
	for _, test := range []struct{ name, text, want string }{
		{"nothing", " ", "the rule is empty"},
		{"a key in place of its hash", apiKey + " GetGroup", "does not begin with the SHA-256"},
		{"a hash that is too short", zeros[:14], "does not begin with the SHA-256"},
		{"a hash that is too long", zeros + "00", "does not begin with the SHA-256"},
		{"an odd number of digits", zeros[:17], "does not begin with the SHA-256"},
		{"an unknown method", zeros + " GetGroup GetGruop", `"GetGruop" is not a method or a service of the Mesh API; did you mean "GetGroup"?`},
		{"no network", zeros + " GetGroup from", "no network after from"},
		{"not a network", zeros + " from 10.0.0.0/33", `"10.0.0.0/33" is neither an address nor a network`},
		{"a method after the networks", zeros + " from 10.0.0.0/8 GetGroup", `"GetGroup" is neither an address nor a network`},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := new(access.Key).UnmarshalText([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), apiKey) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
}

func TestTwoRulesForAKey(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	rules, err := access.Compile(access.Config{Keys: []access.Key{rule(t, zeros+" GetGroup"), rule(t, zeros[:16])}})
	if rules != nil || err == nil || !strings.Contains(err.Error(), "two rules for the key 0000000000000000…") {
		t.Errorf("%v, %v", rules, err)
	}
}

func TestRulesAreReplaced(t *testing.T) {
	current := new(access.Current)
	wantReason(t, current.Rules().Method(createGroup), "")
	current.Set(compile(t, access.Config{ReadOnly: true}))
	wantReason(t, current.Rules().Method(createGroup), apierror.ReadOnly)
	current.Set(nil)
	wantReason(t, current.Rules().Method(createGroup), "")
}

// TestFind looks up each method by all of its names.
func TestFind(t *testing.T) {
	for _, method := range contract.Methods() {
		service, name := method.Descriptor.Parent(), string(method.Descriptor.Name())
		for _, form := range []string{
			method.Name(), strings.TrimPrefix(method.Name(), "/"), string(method.Descriptor.FullName()),
			string(service.Name()) + "." + name, string(service.Name()) + "/" + name, name,
		} {
			if found, err := access.Find(form); err != nil || len(found) != 1 || found[0] != method {
				t.Errorf("%s: %v, %v", form, found, err)
			}
		}
		for _, form := range []string{string(service.FullName()), string(service.Name())} {
			if found, err := access.Find(form); err != nil || len(found) == 0 || found[0].Descriptor.Parent() != service {
				t.Errorf("%s: %v, %v", form, found, err)
			}
		}
	}
	for name, nearest := range map[string]string{
		"": "", ".": "", "meshtrade": "", "createTransfer": "CreateTransfer", "TransfersService": "TransferService", "GroupService/GetGruop": "GroupService.GetGroup",
	} {
		err := new(access.Name).UnmarshalText([]byte(name))
		if err == nil || !strings.Contains(err.Error(), nearest) {
			t.Errorf("%q: %v, want %q", name, err, nearest)
		}
	}
}

func TestNoRules(t *testing.T) {
	rules := (*access.Current)(nil).Rules()
	if err := rules.Address(netip.Addr{}); err != nil {
		t.Error(err)
	}
	if err := rules.Method(createTransfer); err != nil {
		t.Error(err)
	}
	if err := rules.Key([sha256.Size]byte{}, createTransfer, netip.Addr{}); err != nil {
		t.Error(err)
	}
	if len(rules.Methods()) != len(contract.Methods()) {
		t.Error("not all methods are served")
	}
}

func BenchmarkAdmitted(b *testing.B) {
	sum := sha256.Sum256([]byte("the key"))
	rules, _ := access.Compile(access.Config{
		Networks: []netip.Prefix{office, branch}, Disabled: []access.Name{"TransferService"},
		Keys: []access.Key{rule(b, hex.EncodeToString(sum[:])+" GroupService")},
	})
	client := netip.MustParseAddr("2001:db8::1")
	b.ReportAllocs()
	for b.Loop() {
		if rules.Address(client) != nil || rules.Method(getGroup) != nil || rules.Key(sum, getGroup, client) != nil {
			b.Fatal("refused")
		}
	}
}
