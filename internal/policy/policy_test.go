package policy_test

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/policy"
)

const group = "groups/01HZXJ5K8MNPQRSTVWXYZ01234"

// keyOf is a key in whose form one letter is repeated.
func keyOf(letter string) string { return strings.Repeat(letter, 43) }

// newPolicy makes a policy that the test may change before it is built.
func newPolicy(t *testing.T, change func(*policy.Limits)) *policy.Policy {
	t.Helper()
	limits := policy.Limits{Streams: policy.StreamLimits{PerKey: 10, All: 10}, Timeout: time.Minute}
	change(&limits)
	p, err := policy.New(limits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// call is one of the rules and address with a key, "" for none.
func call(rules policy.Rules, address, key string) policy.Call {
	header := http.Header{}
	if key != "" {
		header.Set("X-Api-Key", key)
		header.Set("X-Group", group)
	}
	return policy.Call{Rules: rules, Header: header, Address: netip.MustParseAddr(address)}
}

func TestAdmit(t *testing.T) {
	p := newPolicy(t, func(l *policy.Limits) {
		l.Read, l.Write = policy.Rate{Requests: 2, Period: time.Hour}, policy.Rate{Requests: 1, Period: time.Hour}
	})
	read, write, public := policy.Rules{}, policy.Rules{Write: true}, policy.Rules{Public: true}

	// The calls share the budgets, in this order.
	for _, test := range []struct {
		name         string
		rules        policy.Rules
		address, key string
		want         codes.Code
	}{
		{"below", read, "192.0.2.1", keyOf("a"), codes.OK},
		{"at", read, "192.0.2.1", keyOf("a"), codes.OK},
		{"over", read, "192.0.2.1", keyOf("a"), codes.ResourceExhausted},
		{"over from another address", read, "192.0.2.2", keyOf("a"), codes.ResourceExhausted},
		{"a write has its own budget", write, "192.0.2.1", keyOf("a"), codes.OK},
		{"which ends too", write, "192.0.2.1", keyOf("a"), codes.ResourceExhausted},
		{"another key", read, "192.0.2.1", keyOf("b"), codes.OK},
		{"no key is counted by address", public, "192.0.2.9", "", codes.OK},
		{"an IPv6 host", public, "2001:db8::1", "", codes.OK},
		{"shares with its network", public, "2001:db8::2", "", codes.OK},
		{"which is over then", public, "2001:db8::3", "", codes.ResourceExhausted},
		{"another network is not", public, "2001:db8:0:1::1", "", codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := call(test.rules, test.address, test.key)
			c.Answer = http.Header{}
			_, release, err := p.Admit(t.Context(), c)
			if status.Code(err) != test.want {
				t.Fatalf("%v, want %s", err, test.want)
			}
			if (release == nil) != (err != nil) {
				t.Error("release and the error must exclude each other")
			}
			if release != nil {
				release()
			}
			if _, ours := err.(*apierror.Error); err != nil && !ours { //nolint:errorlint // the type itself is promised
				t.Errorf("the error is a %T", err)
			}
			if policies := c.Answer.Values("RateLimit-Policy"); len(policies) != 2 || len(c.Answer.Values("RateLimit")) != 2 {
				t.Errorf("the budgets of the address and the key are not both reported: %v", c.Answer)
			}
		})
	}
}

// TestTheFirstRefusalIsTheError breaks every rule from one on, in the order in which
// they are documented to be checked.
func TestTheFirstRefusalIsTheError(t *testing.T) {
	once := policy.Rate{Requests: 1, Period: time.Hour} // and 4 from one address
	for _, test := range []struct {
		name     string
		before   int // calls with the key before
		streams  int // that may be open
		key      string
		timeout  string
		reason   apierror.Reason
		message  string
		reported int // budgets
	}{
		{"the budget of the address", 4, 0, "malformed", "never", apierror.RateLimited, "read-address", 1},
		{"the credentials", 1, 0, "malformed", "never", apierror.CredentialsMalformed, "API key", 1},
		{"the budget of the key", 1, 0, keyOf("a"), "never", apierror.RateLimited, "limit read of", 2},
		{"the streams", 0, 0, keyOf("a"), "never", apierror.RateLimited, "streams", 2},
		{"the deadline", 0, 1, keyOf("a"), "never", apierror.InvalidRequest, "Request-Timeout", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPolicy(t, func(l *policy.Limits) {
				l.Read, l.Streams = once, policy.StreamLimits{PerKey: test.streams, All: test.streams}
			})
			for range test.before {
				if _, release, err := p.Admit(t.Context(), call(policy.Rules{}, "192.0.2.1", keyOf("a"))); err == nil {
					release()
				}
			}
			c := call(policy.Rules{Stream: true}, "192.0.2.1", test.key)
			c.Answer = http.Header{}
			c.Header.Set("Request-Timeout", test.timeout)
			_, _, err := p.Admit(t.Context(), c)
			if err == nil || apierror.ReasonOf(err) != string(test.reason) || !strings.Contains(err.Error(), test.message) {
				t.Errorf("%v, want %s with %q", err, test.reason, test.message)
			}
			if got := len(c.Answer.Values("RateLimit")); got != test.reported {
				t.Errorf("%d budgets are reported, want %d", got, test.reported)
			}
		})
	}
}

func TestAdmitSetsTheDeadline(t *testing.T) {
	p := newPolicy(t, func(l *policy.Limits) { l.Timeout = time.Minute })
	for _, test := range []struct {
		name  string
		rules policy.Rules
		want  time.Duration // 0 is none
	}{
		{"of a unary call", policy.Rules{}, time.Minute},
		{"none of a stream", policy.Rules{Stream: true}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := time.Now()
			ctx, release, err := p.Admit(t.Context(), call(test.rules, "192.0.2.1", keyOf("a")))
			if err != nil {
				t.Fatal(err)
			}
			deadline, limited := ctx.Deadline()
			if limited != (test.want > 0) || limited && (deadline.Before(before.Add(test.want)) || deadline.After(time.Now().Add(test.want))) {
				t.Errorf("deadline %s, %t", deadline, limited)
			}
			release()
			if limited && ctx.Err() != context.Canceled {
				t.Errorf("after release the context is %v", ctx.Err())
			}
		})
	}
}

func TestAStreamCountsUntilItIsReleased(t *testing.T) {
	p := newPolicy(t, func(l *policy.Limits) { l.Streams = policy.StreamLimits{PerKey: 1, All: 1} })
	stream := call(policy.Rules{Stream: true}, "192.0.2.1", keyOf("a"))
	admit := func(c policy.Call) (func(), error) {
		_, release, err := p.Admit(t.Context(), c)
		return release, err
	}

	refused := call(policy.Rules{Stream: true}, "192.0.2.1", keyOf("a"))
	refused.Header.Set("Request-Timeout", "never")
	if _, err := admit(refused); err == nil {
		t.Fatal("a malformed Request-Timeout is taken")
	}
	release, err := admit(stream)
	if err != nil {
		t.Fatalf("the stream that was refused still counts: %v", err)
	}
	if _, err := admit(stream); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second stream: %v", err)
	}
	if unary, err := admit(call(policy.Rules{}, "192.0.2.1", keyOf("a"))); err != nil {
		t.Errorf("a unary call beside the stream: %v", err)
	} else {
		unary()
	}
	release()
	limited := call(policy.Rules{Stream: true}, "192.0.2.1", keyOf("a"))
	limited.Header.Set("Request-Timeout", "60")
	for _, c := range []policy.Call{limited, stream} {
		if release, err = admit(c); err != nil {
			t.Fatalf("the stream that was released still counts: %v", err)
		}
		release()
	}
}

// TestFrontsWithoutHTTP admits a call as a gRPC front would: its metadata become a
// header, there is no ResponseWriter, and the error is a status with its details.
func TestFrontsWithoutHTTP(t *testing.T) {
	p := newPolicy(t, func(l *policy.Limits) { l.Write = policy.Rate{Requests: 1, Period: time.Hour} })
	metadata := http.Header{"Authorization": {"Bearer " + keyOf("a")}, "X-Group": {group}}
	c := policy.Call{Rules: policy.RulesOf(contract.ByName("/meshtrade.iam.group.v1.GroupService/CreateGroup")), Header: metadata}

	_, release, err := p.Admit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if got := metadata.Values("X-Api-Key"); !slices.Equal(got, []string{keyOf("a")}) || metadata.Get("Authorization") != "" {
		t.Errorf("the credentials are not in one form: %v", metadata)
	}

	_, _, err = p.Admit(t.Context(), c)
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.ResourceExhausted || len(st.Details()) != 2 {
		t.Errorf("status %v with details %v", st, st.Details())
	}
}

func TestRulesOf(t *testing.T) {
	for name, want := range map[string]policy.Rules{
		"/meshtrade.iam.group.v1.GroupService/GetGroup":                         {},
		"/meshtrade.iam.group.v1.GroupService/CreateGroup":                      {Write: true},
		"/meshtrade.trading.limit_order.v1.LimitOrderService/MonitorLimitOrder": {Stream: true},
	} {
		method := contract.ByName(name)
		if method == nil {
			t.Fatalf("%s is not in the contract", name)
		}
		if got := policy.RulesOf(method); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	for _, method := range contract.Methods() {
		if policy.RulesOf(method).Public != method.Public {
			t.Errorf("%s: public is lost", method.Name())
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	budget := policy.Rate{Requests: 1_000_000, Period: time.Second}
	p, err := policy.New(policy.Limits{Read: budget, Write: budget, Timeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	c := call(policy.Rules{}, "192.0.2.1", keyOf("a"))
	b.ReportAllocs()
	for b.Loop() {
		c.Answer = http.Header{}
		_, release, err := p.Admit(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}
