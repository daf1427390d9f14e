package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// recordOf makes a call and returns the response and its record in the access log.
func (p *program) recordOf(t *testing.T, id, method, path string, header http.Header) (answer, map[string]any) {
	t.Helper()
	header = header.Clone()
	header.Set("X-Request-Id", id)
	a := p.call(t, method, path, header, "")
	var record map[string]any
	if err := json.Unmarshal([]byte(p.stderr.Wait(t, `"request_id":"`+id+`"`)), &record); err != nil {
		t.Fatal(err)
	}
	return a, record
}

// TestAccessLogHasTheReason checks the record of each kind of failure.
func TestAccessLogHasTheReason(t *testing.T) {
	upstream := meshtest.NewUpstream(t)
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext")
	caller := http.Header{"X-Api-Key": {strings.Repeat("k", 43)}, "X-Group": {group}}

	for _, test := range []struct {
		name   string
		fail   *status.Status // of the upstream
		header http.Header
		want   map[string]any // nil: the record must not have the field
	}{
		{"success", nil, caller, map[string]any{
			"level": "INFO", "status": 200.0, "code": nil, "reason": nil, "cause": nil}},
		{"rejected by the policy", nil, http.Header{}, map[string]any{
			"level": "INFO", "status": 401.0, "code": "UNAUTHENTICATED", "reason": "CREDENTIALS_MISSING", "cause": nil}},
		{"a status from the upstream", status.New(codes.NotFound, "no such group"), caller, map[string]any{
			"level": "INFO", "status": 404.0, "code": "NOT_FOUND", "reason": nil, "cause": nil}},
		{"an overloaded upstream", status.New(codes.Unavailable, "later"), caller, map[string]any{
			"level": "WARN", "status": 503.0, "code": "UNAVAILABLE", "reason": nil, "cause": nil}},
		{"a defect of the upstream", status.New(codes.Internal, "a lost row"), caller, map[string]any{
			"level": "ERROR", "status": 500.0, "code": "INTERNAL", "reason": "UPSTREAM_FAILED", "cause": "rpc error: code = Internal desc = a lost row"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.fail != nil {
				upstream.Fail(test.fail)
			}
			_, record := p.recordOf(t, strings.ReplaceAll(test.name, " ", "-"), "GET", "/v1/"+group, test.header)
			test.want["rpc"] = "/meshtrade.iam.group.v1.GroupService/GetGroup"
			test.want["path"] = "/v1/" + group
			for name, want := range test.want {
				if record[name] != want {
					t.Errorf("%s is %v, want %v", name, record[name], want)
				}
			}
			if route, _ := record["route"].(string); !strings.HasPrefix(route, "/v1/") || !strings.Contains(route, "{") || strings.Contains(route, ulid) {
				t.Errorf("route is %q, want the pattern of the path", route)
			}
		})
	}
	if strings.Contains(p.stderr.String(), caller.Get("X-Api-Key")) {
		t.Error("a key is in the log")
	}
}

// TestAccessLogHasTheCause calls an upstream that does not listen. The dial error is in the log, but
// not in the response.
func TestAccessLogHasTheCause(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--upstream", target, "--upstream-plaintext")
	caller := http.Header{"X-Api-Key": {strings.Repeat("k", 43)}, "X-Group": {group}}

	a, record := p.recordOf(t, "unreachable", "POST", "/v1/iam/api_users/"+ulid+":activate", caller)
	for name, want := range map[string]any{
		"level": "WARN", "status": 503.0, "code": "UNAVAILABLE", "reason": "UPSTREAM_UNREACHABLE",
		"rpc": "/meshtrade.iam.api_user.v1.APIUserService/ActivateAPIUser",
	} {
		if record[name] != want {
			t.Errorf("%s is %v, want %v", name, record[name], want)
		}
	}
	if cause, _ := record["cause"].(string); !strings.Contains(cause, target) {
		t.Errorf("cause is %q, want the dial error of %s", cause, target)
	}
	if strings.Contains(string(a.body), target) {
		t.Errorf("the response contains the address of the upstream: %s", a.body)
	}
}

// TestAccessLogHasTheEndOfAStream checks the record of an error after the first message, which the
// HTTP status does not show.
func TestAccessLogHasTheEndOfAStream(t *testing.T) {
	upstream := meshtest.NewUpstream(t)
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext")
	caller := http.Header{"X-Api-Key": {strings.Repeat("k", 43)}, "X-Group": {group}}
	upstream.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
		return []proto.Message{dynamicpb.NewMessage(method.Output())}, status.Error(codes.Aborted, "the market closed")
	})
	_, record := p.recordOf(t, "late-error", "GET", "/v1/limit_orders/"+ulid+":monitor", caller)
	for name, want := range map[string]any{
		"status": 200.0, "code": "ABORTED", "route": "/v1/{name=limit_orders/*}:monitor",
		"rpc": "/meshtrade.trading.limit_order.v1.LimitOrderService/MonitorLimitOrder",
	} {
		if record[name] != want {
			t.Errorf("%s is %v, want %v", name, record[name], want)
		}
	}
}
