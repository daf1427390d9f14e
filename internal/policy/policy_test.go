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

	"github.com/meshtrade/mesh-gateway/internal/admission"
	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

const group = "groups/01HZXJ5K8MNPQRSTVWXYZ01234"

// keyOf returns an API key that consists of one repeated letter.
func keyOf(letter string) string { return strings.Repeat(letter, 43) }

// newPolicy returns a policy with limits that change may modify.
func newPolicy(t *testing.T, change func(*policy.Limits)) *policy.Policy {
	t.Helper()
	limits := policy.Limits{Streams: policy.StreamLimits{PerKey: 10, All: 10}, Timeout: time.Minute}
	change(&limits)
	return policy.New(limits)
}

// call returns a call with a key, or without credentials if key is "".
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
		l.Read, l.Write = ratelimit.Rate{Requests: 2, Period: time.Hour}, ratelimit.Rate{Requests: 1, Period: time.Hour}
	})
	read, write, public := policy.Rules{}, policy.Rules{Write: true}, policy.Rules{Public: true}

	// The calls share the rate limits, in this order.
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
		{"a write has its own limit", write, "192.0.2.1", keyOf("a"), codes.OK},
		{"a second write is over it", write, "192.0.2.1", keyOf("a"), codes.ResourceExhausted},
		{"another key", read, "192.0.2.1", keyOf("b"), codes.OK},
		{"a call without a key is counted by address", public, "192.0.2.9", "", codes.OK},
		{"an IPv6 host", public, "2001:db8::1", "", codes.OK},
		{"another host of the /64 shares the limit", public, "2001:db8::2", "", codes.OK},
		{"a third host of the /64 is over the limit", public, "2001:db8::3", "", codes.ResourceExhausted},
		{"a host of another /64", public, "2001:db8:0:1::1", "", codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := call(test.rules, test.address, test.key)
			c.ResponseHeader = http.Header{}
			_, release, err := p.Admit(t.Context(), c)
			if status.Code(err) != test.want {
				t.Fatalf("%v, want %s", err, test.want)
			}
			if (release == nil) != (err != nil) {
				t.Error("want either release or an error")
			}
			if release != nil {
				release()
			}
			if _, ok := err.(*apierror.Error); err != nil && !ok { //nolint:errorlint // the documented type
				t.Errorf("the error is a %T", err)
			}
			if policies := c.ResponseHeader.Values("RateLimit-Policy"); len(policies) != 2 || len(c.ResponseHeader.Values("RateLimit")) != 2 {
				t.Errorf("want the limits of the address and of the key in the response: %v", c.ResponseHeader)
			}
		})
	}
}

// TestAdmitReturnsTheFirstError makes one check and all later ones fail, in the documented order of
// the checks.
func TestAdmitReturnsTheFirstError(t *testing.T) {
	once := ratelimit.Rate{Requests: 1, Period: time.Hour} // and 4 from one address
	for _, test := range []struct {
		name     string
		before   int // earlier calls with the key
		streams  int // the maximum number of open streams
		key      string
		timeout  string
		reason   apierror.Reason
		message  string
		reported int // the number of rate limits in the response
	}{
		{"the limit of the address", 4, 0, "malformed", "never", apierror.RateLimited, "read-address", 1},
		{"the credentials", 1, 0, "malformed", "never", apierror.CredentialsMalformed, "API key", 1},
		{"the limit of the key", 1, 0, keyOf("a"), "never", apierror.RateLimited, `limit "read" of`, 2},
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
			c.ResponseHeader = http.Header{}
			c.Header.Set("Request-Timeout", test.timeout)
			_, _, err := p.Admit(t.Context(), c)
			if err == nil || apierror.ReasonOf(err) != string(test.reason) || !strings.Contains(err.Error(), test.message) {
				t.Errorf("%v, want %s with %q", err, test.reason, test.message)
			}
			if got := len(c.ResponseHeader.Values("RateLimit")); got != test.reported {
				t.Errorf("%d rate limits in the response, want %d", got, test.reported)
			}
		})
	}
}

func TestAdmitSetsTheDeadline(t *testing.T) {
	p := newPolicy(t, func(l *policy.Limits) { l.Timeout = time.Minute })
	for _, test := range []struct {
		name  string
		rules policy.Rules
		want  time.Duration // 0 means none
	}{
		{"a unary call", policy.Rules{}, time.Minute},
		{"a stream", policy.Rules{Stream: true}, 0},
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

	rejected := call(policy.Rules{Stream: true}, "192.0.2.1", keyOf("a"))
	rejected.Header.Set("Request-Timeout", "never")
	if _, err := admit(rejected); err == nil {
		t.Fatal("a malformed Request-Timeout was accepted")
	}
	release, err := admit(stream)
	if err != nil {
		t.Fatalf("the rejected stream still counts: %v", err)
	}
	if _, err := admit(stream); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second stream: %v", err)
	}
	if unary, err := admit(call(policy.Rules{}, "192.0.2.1", keyOf("a"))); err != nil {
		t.Errorf("a unary call during the stream: %v", err)
	} else {
		unary()
	}
	release()
	limited := call(policy.Rules{Stream: true}, "192.0.2.1", keyOf("a"))
	limited.Header.Set("Request-Timeout", "60")
	for _, c := range []policy.Call{limited, stream} {
		if release, err = admit(c); err != nil {
			t.Fatalf("the released stream still counts: %v", err)
		}
		release()
	}
}

// TestAdmitWithoutHTTP admits a call as a gRPC server would: its metadata becomes a header, there
// is no ResponseWriter, and the error is a status with details.
func TestAdmitWithoutHTTP(t *testing.T) {
	p := newPolicy(t, func(l *policy.Limits) { l.Write = ratelimit.Rate{Requests: 1, Period: time.Hour} })
	metadata := http.Header{"Authorization": {"Bearer " + keyOf("a")}, "X-Group": {group}}
	c := policy.Call{Rules: policy.RulesOf(contract.ByName("/meshtrade.iam.group.v1.GroupService/CreateGroup")), Header: metadata}

	_, release, err := p.Admit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if got := metadata.Values("X-Api-Key"); !slices.Equal(got, []string{keyOf("a")}) || metadata.Get("Authorization") != "" {
		t.Errorf("the key was not moved to X-Api-Key: %v", metadata)
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
		"/meshtrade.iam.group.v1.GroupService/ListGroups":                       {List: true},
		"/meshtrade.iam.group.v1.GroupService/CreateGroup":                      {Write: true},
		"/meshtrade.trading.limit_order.v1.LimitOrderService/MonitorLimitOrder": {Stream: true},
	} {
		method := contract.ByName(name)
		if method == nil {
			t.Fatalf("%s is not in the contract", name)
		}
		want.RPC = name
		if got := policy.RulesOf(method); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	for _, method := range contract.Methods() {
		if policy.RulesOf(method).Public != method.Public {
			t.Errorf("%s: Public differs from the contract", method.Name())
		}
	}
}

func TestAdmitReservesMemory(t *testing.T) {
	memory := budget.New(budget.Options{Limit: budget.MinLimit, MaxReply: 1 << 20})
	p := newPolicy(t, func(l *policy.Limits) { l.Budget = memory })
	stream := call(policy.Rules{Stream: true}, "192.0.2.1", keyOf("a"))
	ctx, release, err := p.Admit(t.Context(), stream)
	if err != nil || budget.Of(ctx) == nil || memory.Held() == 0 {
		t.Fatalf("%v, lease %p, %d bytes held", err, budget.Of(ctx), memory.Held())
	}
	budget.Of(ctx).Hold(budget.MinLimit)
	for range 20 { // more than there may be streams
		if _, _, err := p.Admit(t.Context(), stream); apierror.ReasonOf(err) != string(apierror.Overloaded) {
			t.Fatalf("a call without room: %v, want OVERLOADED", err)
		}
	}
	release()
	if memory.Held() != 0 {
		t.Errorf("held = %d after the release, want 0", memory.Held())
	}
	stream.Body = budget.MinLimit
	if _, _, err := p.Admit(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	if memory.Held() < budget.MinLimit {
		t.Errorf("held = %d with a body of %d bytes", memory.Held(), budget.MinLimit)
	}
}

func BenchmarkAdmit(b *testing.B) {
	rate := ratelimit.Rate{Requests: 1_000_000, Period: time.Second}
	p := policy.New(policy.Limits{Read: rate, Write: rate, Timeout: time.Minute})
	c := call(policy.Rules{}, "192.0.2.1", keyOf("a"))
	b.ReportAllocs()
	for b.Loop() {
		c.ResponseHeader = http.Header{}
		_, release, err := p.Admit(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}

// TestAdmission checks that a call counts in the gateway until it has ended, and not if it is refused
// later.
func TestAdmission(t *testing.T) {
	control := admission.New(contract.Methods())
	memory := budget.New(budget.Options{Limit: budget.MinLimit, MaxReply: 1 << 20})
	p := newPolicy(t, func(l *policy.Limits) { l.Admission, l.Budget = control, memory })
	read := policy.RulesOf(contract.ByName("/meshtrade.iam.group.v1.GroupService/GetGroup"))
	inGateway := func(want int64) {
		t.Helper()
		if got := control.InGateway(); got != want {
			t.Errorf("%d calls are in the gateway, want %d", got, want)
		}
	}
	ctx, release, err := p.Admit(t.Context(), call(read, "192.0.2.1", keyOf("a")))
	if err != nil {
		t.Fatal(err)
	}
	inGateway(1)
	budget.Of(ctx).Hold(budget.MinLimit)
	if _, _, err := p.Admit(t.Context(), call(read, "192.0.2.1", keyOf("b"))); err == nil {
		t.Error("the budget is full, and a call was admitted")
	}
	inGateway(1)
	release()
	inGateway(0)
}
