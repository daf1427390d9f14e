package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// TestRulesOfAccess makes calls that the rules of a gateway refuse, and calls that they do not.
func TestRulesOfAccess(t *testing.T) {
	key := strings.Repeat("k", 43)
	sum := sha256.Sum256([]byte(key))
	hash := hex.EncodeToString(sum[:])
	const (
		createUser = "/v1/iam/api_users"
		userBody   = `{"owner": "groups/00000000000000000000BR0KER", "displayName": "Desk"}`
		listGroups = "/v1/groups"
	)
	for _, test := range []struct {
		name   string
		flags  []string
		method string
		path   string
		body   string
		want   apierror.Reason // "" if the call is made
	}{
		{"a write in read-only mode", []string{"--read-only"}, "POST", createUser, userBody, apierror.ReadOnly},
		{"an invalid write in read-only mode", []string{"--read-only"}, "POST", createUser, `{"nonsense": 1}`, apierror.ReadOnly},
		{"a read in read-only mode", []string{"--read-only"}, "GET", listGroups, "", ""},
		{"a read with POST in read-only mode", []string{"--read-only"}, "POST", "/v1/wallet/transfers:calculateFee", `{"amount": {"token": {"code": "mZAR", "issuer": "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN", "ledger": "LEDGER_STELLAR"}, "value": {"value": "1"}}}`, ""},
		{"a disabled method", []string{"--disable", "ListGroups"}, "GET", listGroups, "", apierror.MethodDisabled},
		{"a method of a disabled service", []string{"--disable", "meshtrade.iam.group.v1.GroupService"}, "GET", "/v1/groups:search?display_name=x", "", apierror.MethodDisabled},
		{"a disabled stream", []string{"--disable", "MonitorLimitOrder"}, "GET", "/v1/limit_orders/00000000000000000000000001:monitor", "", apierror.MethodDisabled},
		{"another method", []string{"--disable", "SearchGroups,CreateGroup"}, "GET", listGroups, "", ""},
		{"another network", []string{"--allow-cidr", "192.0.2.0/24"}, "GET", listGroups, "", apierror.AddressNotAllowed},
		{"a ticket for another network", []string{"--allow-cidr", "192.0.2.0/24"}, "POST", "/stream_tickets", `{"path": "/v1/limit_orders/00000000000000000000000001:monitor"}`, apierror.AddressNotAllowed},
		{"the network", []string{"--allow-cidr", "192.0.2.0/24,127.0.0.0/8"}, "GET", listGroups, "", ""},
		{"a method that the key may call", []string{"--key-rule", hash + " GroupService"}, "GET", listGroups, "", ""},
		{"a method that the key may not call", []string{"--key-rule", hash[:16] + " AccountService"}, "GET", listGroups, "", apierror.KeyNotAllowed},
		{"a key from another network", []string{"--key-rule", hash + " from 192.0.2.0/24"}, "GET", listGroups, "", apierror.AddressNotAllowed},
		{"a rule for another key", []string{"--key-rule", strings.Repeat("0", 64) + " AccountService"}, "GET", listGroups, "", ""},
		{"a key that is not listed", []string{"--unlisted-keys", "refuse", "--key-rule", strings.Repeat("0", 64)}, "GET", listGroups, "", apierror.KeyNotAllowed},
		{"a key that is listed", []string{"--unlisted-keys", "refuse", "--key-rule", base64.StdEncoding.EncodeToString(sum[:])}, "GET", listGroups, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			mesh := meshtest.NewUpstream(t)
			p := start(t, append([]string{"--upstream", mesh.Target, "--upstream-plaintext"}, test.flags...)...)
			a := p.call(t, test.method, test.path, http.Header{"X-Api-Key": {key}, "X-Group": {group}}, test.body)
			calls := mesh.Calls()
			if test.want == "" {
				if a.status != http.StatusOK || len(calls) != 1 {
					t.Errorf("%d with %d calls of Mesh: %s", a.status, len(calls), a.body)
				}
				return
			}
			refusal{http.StatusForbidden, 7, test.want, ""}.check(t, a)
			if message, _ := a.object(t)["message"].(string); !strings.Contains(message, "Nothing was sent to the Mesh API. Ask the operator") {
				t.Errorf("message %q", message)
			}
			if len(calls) != 0 {
				t.Errorf("Mesh was called: %v", calls)
			}
			// Health checks and the documentation have no rules.
			for _, path := range []string{"/healthz", "/readyz", "/docs", "/docs/guide", "/openapi.json"} {
				if a := p.call(t, http.MethodGet, path, nil, ""); a.status != http.StatusOK {
					t.Errorf("%s: %d %s", path, a.status, a.body)
				}
			}
		})
	}
}

// TestAccessIsThatOfTheClient calls through a trusted proxy.
func TestAccessIsThatOfTheClient(t *testing.T) {
	p := start(t, "--sandbox", "--trusted-proxy", "127.0.0.1", "--allow-cidr", "2001:db8::/32")
	caller := as(credential(t, "Broker Admin"))
	for client, want := range map[string]int{"2001:db8::1": http.StatusOK, "2001:db9::1": http.StatusForbidden, "": http.StatusForbidden} {
		header := caller.Clone()
		if client != "" {
			header.Set("X-Forwarded-For", client)
		}
		if a := p.call(t, http.MethodGet, "/v1/groups", header, ""); a.status != want {
			t.Errorf("%q: %d %s", client, a.status, a.body)
		}
	}
}

// TestDocumentsShowWhatIsServed compares the documents of a gateway, and what the commands print with
// the same flags, with the contract.
func TestDocumentsShowWhatIsServed(t *testing.T) {
	flags := []string{"--read-only", "--disable", "TransferService,ListGroups"}
	p := start(t, append([]string{"--sandbox"}, flags...)...)
	served := p.call(t, http.MethodGet, "/openapi.json", nil, "").body
	code, printed, stderr := command(t, append([]string{"openapi", "--sandbox"}, flags...)...)
	if code != 0 || printed != string(served) {
		t.Errorf("mesh-gateway openapi prints another document: %d %s", code, stderr)
	}
	var document struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(served, &document); err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	for _, item := range document.Paths {
		for _, op := range item {
			name, _, _ := strings.Cut(op.OperationID, "_")
			shown[name] = true
		}
	}
	code, routes, stderr := command(t, append([]string{"routes"}, flags...)...)
	if code != 0 {
		t.Error(stderr)
	}
	guide := string(p.call(t, http.MethodGet, "/docs/guide", nil, "").body)
	for _, method := range contract.Methods() {
		service, name := string(method.Descriptor.Parent().Name()), string(method.Descriptor.Name())
		want := !method.Write && service != "TransferService" && name != "ListGroups"
		if shown[name] != want {
			t.Errorf("%s is in the document: %t", name, shown[name])
		}
		if got := slices.Contains(strings.Fields(routes), service+"."+name); got != want {
			t.Errorf("%s is printed by mesh-gateway routes: %t", name, got)
		}
		if got := strings.Contains(guide, `<article id="`+name+`">`); got != want {
			t.Errorf("%s is in the guide: %t", name, got)
		}
	}
}

func TestInvalidRulesOfAccess(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	for _, test := range []struct{ name, flag, value, want string }{
		{"an unknown method", "--disable", "CreateTransfers", `--disable: "CreateTransfers" is not a method or a service of the Mesh API; did you mean "CreateTransfer"?`},
		{"not a network", "--allow-cidr", "10.0.0.0/33", `--allow-cidr: "10.0.0.0/33" is neither an address nor a network`},
		{"an unknown method of a key", "--key-rule", zeros + " GetGruop", `did you mean "GetGroup"?`},
		{"two rules for a key", "--key-rule", zeros + "," + zeros[:16] + " GetGroup", "--key-rule: there are two rules for the key 0000000000000000…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := command(t, "serve", "--sandbox", test.flag, test.value)
			if code != 2 || stdout != "" || !strings.Contains(stderr, test.want) {
				t.Errorf("exit status %d\n%s", code, stderr)
			}
		})
	}
	key := credential(t, "Broker Admin").APIKey
	if code, _, stderr := command(t, "serve", "--sandbox", "--key-rule", key); code != 2 || strings.Contains(stderr, key) {
		t.Errorf("a key in place of its hash: exit status %d\n%s", code, stderr)
	}
}
