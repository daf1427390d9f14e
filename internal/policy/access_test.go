package policy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

// TestAdmitChecksTheRulesOfAccess checks the rules and their place among the other checks, by the
// number of rate limits that were taken before.
func TestAdmitChecksTheRulesOfAccess(t *testing.T) {
	const (
		served   = "/meshtrade.iam.group.v1.GroupService/GetGroup"
		other    = "/meshtrade.iam.group.v1.GroupService/ListGroups"
		disabled = "/meshtrade.iam.group.v1.GroupService/SearchGroups"
		here     = "192.0.2.1"
	)
	sum := sha256.Sum256([]byte(keyOf("r")))
	var key access.Key
	if err := key.UnmarshalText([]byte(hex.EncodeToString(sum[:]) + " " + served)); err != nil {
		t.Fatal(err)
	}
	rules := inForce(t, access.Config{
		Disabled: []access.Name{disabled},
		Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Keys:     []access.Key{key},
	})
	for _, test := range []struct {
		name              string
		rpc, address, key string
		reason            apierror.Reason
		reported          int
	}{
		{"allowed", served, here, keyOf("r"), "", 2},
		{"another network, and all else is wrong", disabled, "198.51.100.1", "malformed", apierror.AddressNotAllowed, 0},
		{"a disabled method, and the key is malformed", disabled, here, "malformed", apierror.MethodDisabled, 1},
		{"a malformed key", other, here, "malformed", apierror.CredentialsMalformed, 1},
		{"a method that is not in the list of the key", other, here, keyOf("r"), apierror.KeyNotAllowed, 1},
		{"a method that is not in the list of another key", other, here, keyOf("a"), "", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPolicy(t, func(l *policy.Limits) {
				l.Read, l.Access = ratelimit.Rate{Requests: 1, Period: time.Hour}, rules
			})
			c := call(policy.Rules{RPC: test.rpc}, test.address, test.key)
			c.ResponseHeader = http.Header{}
			_, release, err := p.Admit(t.Context(), c)
			if release != nil {
				release()
			}
			if got := reasonOf(err); got != string(test.reason) {
				t.Errorf("%v, want %q", err, test.reason)
			}
			if got := len(c.ResponseHeader.Values("RateLimit")); got != test.reported {
				t.Errorf("%d rate limits in the response, want %d", got, test.reported)
			}
		})
	}
}

// TestACallWithoutAKeyIsOfNoKey calls a public method of a gateway that accepts no key.
func TestACallWithoutAKeyIsOfNoKey(t *testing.T) {
	rules := inForce(t, access.Config{ListedKeysOnly: true})
	p := newPolicy(t, func(l *policy.Limits) { l.Access = rules })
	for key, want := range map[string]apierror.Reason{"": "", keyOf("a"): apierror.KeyNotAllowed} {
		_, release, err := p.Admit(t.Context(), call(policy.Rules{Public: true}, "192.0.2.1", key))
		if release != nil {
			release()
		}
		if got := reasonOf(err); got != string(want) {
			t.Errorf("key %q: %v, want %q", key, err, want)
		}
	}
}

func inForce(t *testing.T, config access.Config) *access.Current {
	t.Helper()
	rules, err := access.Compile(config)
	if err != nil {
		t.Fatal(err)
	}
	current := new(access.Current)
	current.Set(rules)
	return current
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return apierror.ReasonOf(err)
}
