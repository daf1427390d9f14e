package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// refusal is an expected error response.
type refusal struct {
	status int
	code   codes.Code
	// reason is in the ErrorInfo of the gateway. It is "" for an error of the upstream.
	reason apierror.Reason
	// field is the field of one of the violations.
	field string
}

func (want refusal) check(t *testing.T, a answer) {
	t.Helper()
	if a.status != want.status {
		t.Fatalf("status %d, want %d: %s", a.status, want.status, a.body)
	}
	if got := codes.Code(a.object(t)["code"].(float64)); got != want.code {
		t.Errorf("code %s, want %s", got, want.code)
	}
	if a.object(t)["message"] == "" {
		t.Error("no message")
	}
	id := a.header.Get("X-Request-Id")
	if info := a.detail(t, "RequestInfo"); id == "" || info == nil || info["requestId"] != id {
		t.Errorf("X-Request-Id %q, RequestInfo %v", id, info)
	}
	switch info := a.detail(t, "ErrorInfo"); {
	case want.reason == "":
		if info != nil {
			t.Errorf("ErrorInfo %v in an error of the upstream", info)
		}
	case info == nil || info["reason"] != string(want.reason) || info["domain"] != apierror.Domain:
		t.Errorf("ErrorInfo %v, want reason %s", info, want.reason)
	}
	if want.field != "" {
		violations, _ := a.detail(t, "BadRequest")["fieldViolations"].([]any)
		for _, violation := range violations {
			if violation.(map[string]any)["field"] == want.field {
				return
			}
		}
		t.Errorf("no violation of %s in %s", want.field, a.body)
	}
}

const (
	ulid  = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	group = "groups/" + ulid
)

// TestErrorTable checks the errors that a sandbox can return.
func TestErrorTable(t *testing.T) {
	p := start(t, "--sandbox", "--max-body-bytes", "4096")
	admin, viewer := as(credential(t, "Broker Admin")), as(credential(t, "Broker Viewer"))
	broker := credential(t, "Broker Admin").Group
	with := func(name, value string) http.Header {
		h := admin.Clone()
		h.Set(name, value)
		return h
	}
	invalid := func(field string) refusal {
		return refusal{http.StatusBadRequest, codes.InvalidArgument, apierror.InvalidRequest, field}
	}
	order := func(rest string) string {
		return `{"owner": "` + broker + `", "account": "accounts/` + ulid + `", ` + rest + `}`
	}

	for _, test := range []struct {
		name         string
		method, path string
		header       http.Header
		body         string
		want         refusal
	}{
		{"malformed JSON", "POST", "/v1/groups", admin, `{"owner": `, invalid("owner")},
		{"trailing data", "POST", "/v1/groups", admin, `{"owner": "` + broker + `", "displayName": "x"} {}`, invalid("")},
		{"unknown field", "POST", "/v1/groups", admin, `{"displayNam": "x"}`, invalid("displayNam")},
		{"duplicate key", "POST", "/v1/groups", admin, `{"displayName": "x", "displayName": "y"}`, invalid("displayName")},
		{"duplicate key in two spellings", "POST", "/v1/groups", admin, `{"displayName": "x", "display_name": "y"}`, invalid("displayName")},
		{"unknown enum name", "POST", "/v1/limit_orders", admin, order(`"side": "HOLD"`), invalid("side")},
		{"unknown enum number", "POST", "/v1/limit_orders", admin, order(`"side": 9`), invalid("side")},
		{"number for a string", "POST", "/v1/limit_orders", admin, order(`"limitPrice": {"value": {"value": 1.5}}`), invalid("limitPrice.value.value")},
		{"bad number", "POST", "/v1/compliance/clients", admin, `{"company": {"dateOfIncorporation": {"year": "MMXX"}}}`, invalid("company.dateOfIncorporation.year")},
		{"bad date", "POST", "/v1/compliance/clients/" + ulid + ":markVerified", admin, `{"nextVerificationDate": "tomorrow"}`, invalid("nextVerificationDate")},
		{"two fields of a oneof", "POST", "/v1/compliance/clients", admin, `{"fund": {}, "trust": {}}`, invalid("trust")},
		{"broken rule", "POST", "/v1/groups", admin, `{"owner": "me", "displayName": "x"}`, invalid("owner")},
		{"broken rule in the path", "GET", "/v1/groups/me", admin, "", invalid("name")},
		{"a name that differs from the path", "PUT", "/v1/groups/" + ulid, admin, `{"name": "groups/other"}`, invalid("name")},
		{"unknown query parameter", "GET", "/v1/groups:search?displayNam=x", admin, "", invalid("displayNam")},
		{"unknown query parameter with a body", "POST", "/v1/groups?dryRun=true", admin, `{}`, invalid("dryRun")},
		{"query parameter twice", "GET", "/v1/groups:search?displayName=x&displayName=y", admin, "", invalid("displayName")},
		{"bad query value", "GET", "/v1/accounts?populateLedgerData=yes", admin, "", invalid("populateLedgerData")},
		{"body on GET", "GET", "/v1/groups", admin, `{}`, invalid("")},

		{"no key", "GET", "/v1/groups", nil, "", refusal{http.StatusUnauthorized, codes.Unauthenticated, apierror.CredentialsMissing, ""}},
		{"no group", "GET", "/v1/groups", http.Header{"X-Api-Key": admin["X-Api-Key"]}, "", refusal{http.StatusUnauthorized, codes.Unauthenticated, apierror.CredentialsMissing, ""}},
		{"malformed key", "GET", "/v1/groups", with("X-Api-Key", "short"), "", refusal{http.StatusUnauthorized, codes.Unauthenticated, apierror.CredentialsMalformed, ""}},
		{"malformed group", "GET", "/v1/groups", with("X-Group", "me"), "", refusal{http.StatusUnauthorized, codes.Unauthenticated, apierror.CredentialsMalformed, ""}},
		{"unknown key", "GET", "/v1/groups", with("X-Api-Key", strings.Repeat("k", 43)), "", refusal{http.StatusUnauthorized, codes.Unauthenticated, "", ""}},
		{"role missing", "POST", "/v1/groups", viewer, `{"owner": "` + broker + `", "displayName": "x"}`, refusal{http.StatusForbidden, codes.PermissionDenied, "", ""}},

		{"unknown path", "GET", "/v1/nothing", admin, "", refusal{http.StatusNotFound, codes.NotFound, apierror.UnknownPath, ""}},
		{"unknown resource", "GET", "/v1/" + group, admin, "", refusal{http.StatusNotFound, codes.NotFound, "", ""}},
		{"other method", "DELETE", "/v1/" + group, admin, "", refusal{http.StatusMethodNotAllowed, codes.Unimplemented, apierror.MethodNotAllowed, ""}},
		{"GET of a verb", "GET", "/v1/iam/api_users/" + ulid + ":activate", admin, "", refusal{http.StatusMethodNotAllowed, codes.Unimplemented, apierror.MethodNotAllowed, ""}},
		{"nothing acceptable", "GET", "/v1/groups", with("Accept", "text/html, application/json;q=0"), "", refusal{http.StatusNotAcceptable, codes.InvalidArgument, apierror.NotAcceptable, ""}},
		{"already exists", "POST", "/v1/users", admin, `{"owner": "` + broker + `", "email": "operations@harbour.example"}`, refusal{http.StatusConflict, codes.AlreadyExists, "", ""}},
		{"body too large", "POST", "/v1/groups", admin, `{"description": "` + strings.Repeat("x", 4096) + `"}`, refusal{http.StatusRequestEntityTooLarge, codes.ResourceExhausted, apierror.BodyTooLarge, ""}},
		{"not JSON", "POST", "/v1/groups", with("Content-Type", "application/x-www-form-urlencoded"), `displayName=x`, refusal{http.StatusUnsupportedMediaType, codes.InvalidArgument, apierror.UnsupportedMediaType, ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := p.call(t, test.method, test.path, test.header, test.body)
			test.want.check(t, a)
			if a.status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
			if a.status == http.StatusMethodNotAllowed && a.header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
}

// TestPublicMethodsIgnoreTheGroup sends good and bad credentials to a public method, with the sandbox in
// the process and behind gRPC.
func TestPublicMethodsIgnoreTheGroup(t *testing.T) {
	key := credential(t, "Roleless").APIKey
	for name, p := range map[string]*program{
		"the sandbox in the process": start(t, "--sandbox"),
		"an upstream":                start(t, "--upstream", startSandbox(t), "--upstream-plaintext"),
	} {
		for _, test := range []struct {
			name   string
			header http.Header
			status int
		}{
			{"nothing", nil, http.StatusOK},
			{"a group that is none", http.Header{"X-Group": {"me"}}, http.StatusOK},
			{"two groups", http.Header{"X-Group": {"me", group}}, http.StatusOK},
			{"a key and a group that does not exist", http.Header{"X-Api-Key": {key}, "X-Group": {group}}, http.StatusOK},
			{"a key and a group that is none", http.Header{"X-Api-Key": {key}, "X-Group": {"me"}}, http.StatusOK},
			{"a malformed key", http.Header{"X-Api-Key": {"short"}}, http.StatusUnauthorized},
			{"an unknown key", http.Header{"X-Api-Key": {strings.Repeat("k", 43)}}, http.StatusUnauthorized},
		} {
			t.Run(name+", "+test.name, func(t *testing.T) {
				if a := p.call(t, "POST", "/v1/testing/token_taps:initialise", test.header, "{}"); a.status != test.status {
					t.Errorf("status %d, want %d: %s", a.status, test.status, a.body)
				}
			})
		}
	}
}

func TestAllowListsTheMethods(t *testing.T) {
	p := start(t, "--sandbox")
	for path, want := range map[string]string{
		"/v1/groups":   "GET, HEAD, POST",
		"/v1/" + group: "GET, HEAD, PUT",
		"/v1/iam/api_users/" + ulid + ":activate": "POST",
		"/openapi.json": "GET, HEAD",
	} {
		if got := p.call(t, "DELETE", path, nil, "").header.Get("Allow"); got != want {
			t.Errorf("%s: Allow is %q, want %q", path, got, want)
		}
	}
}

func TestAllViolationsAreReported(t *testing.T) {
	p := start(t, "--sandbox")
	a := p.call(t, "POST", "/v1/groups?dryRun=1", as(credential(t, "Broker Admin")),
		`{"displayNam": 1, "owner": 2, "owners": ["x", 3], "description": "d", "description": "e"}`)
	for _, field := range []string{"dryRun", "displayNam", "owner", "owners[0]", "owners[1]", "description", "displayName"} {
		refusal{http.StatusBadRequest, codes.InvalidArgument, apierror.InvalidRequest, field}.check(t, a)
	}
}

func TestOverTheRate(t *testing.T) {
	p := start(t, "--sandbox", "--rate-limit-read", "2/1h", "--rate-limit-write", "0")
	admin := as(credential(t, "Broker Admin"))
	for range 2 {
		if a := p.call(t, "GET", "/v1/groups", admin, ""); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	a := p.call(t, "GET", "/v1/groups", admin, "")
	refusal{http.StatusTooManyRequests, codes.ResourceExhausted, apierror.RateLimited, ""}.check(t, a)
	if a.header.Get("Retry-After") == "" || a.header.Get("RateLimit") == "" || a.header.Get("RateLimit-Policy") == "" {
		t.Errorf("headers %v", a.header)
	}
	if a := p.call(t, "GET", "/v1/groups", as(credential(t, "Broker Viewer")), ""); a.status != http.StatusOK {
		t.Errorf("another key is limited too: %d", a.status)
	}
	if a := p.call(t, "POST", "/v1/groups", admin, `{}`); a.status != http.StatusBadRequest {
		t.Errorf("a write is limited too: %d", a.status)
	}
}

func TestUnknownKeysShareTheLimitOfTheAddress(t *testing.T) {
	p := start(t, "--sandbox", "--rate-limit-read", "2/1h")
	last := 0
	for i := range 9 { // four times the limit of two, plus one
		key := strings.Repeat(string(rune('a'+i)), 43)
		last = p.call(t, "GET", "/v1/groups", http.Header{"X-Api-Key": {key}, "X-Group": {group}}, "").status
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("status of the ninth key: %d", last)
	}
}

func TestHeadersTooLarge(t *testing.T) {
	p := start(t, "--sandbox")
	if a := p.call(t, "GET", "/v1/groups", http.Header{"X-Filler": {strings.Repeat("x", 64<<10)}}, ""); a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", a.status)
	}
}

// TestUpstreamFaults checks the errors of a failing upstream.
func TestUpstreamFaults(t *testing.T) {
	upstream := meshtest.NewUpstream(t)
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--request-timeout", "300ms")
	caller := http.Header{"X-Api-Key": {strings.Repeat("k", 43)}, "X-Group": {group}}

	t.Run("aborted", func(t *testing.T) {
		upstream.Fail(status.New(codes.Aborted, "a transaction was lost"))
		refusal{http.StatusConflict, codes.Aborted, "", ""}.check(t, p.call(t, "GET", "/v1/groups", caller, ""))
	})
	t.Run("a write of an upstream that is unavailable", func(t *testing.T) {
		upstream.Fail(status.New(codes.Unavailable, "shedding load"))
		a := p.call(t, "POST", "/v1/iam/api_users/"+ulid+":activate", caller, "")
		refusal{http.StatusServiceUnavailable, codes.Unavailable, apierror.OutcomeUnknown, ""}.check(t, a)
		if a.header.Get("Retry-After") != "" {
			t.Error("Retry-After invites clients to repeat a write that may have been carried out")
		}
		if want := "Check with GET /v1/iam/api_users/" + ulid + " (GetAPIUser)"; !strings.Contains(string(a.body), want) {
			t.Errorf("the message does not say %q: %s", want, a.body)
		}
	})
	t.Run("a write is sent once, a read up to three times", func(t *testing.T) {
		upstream.Fail(status.New(codes.Unavailable, "shedding load"))
		upstream.Calls()
		p.call(t, "POST", "/v1/iam/api_users/"+ulid+":activate", caller, "")
		if n := len(upstream.Calls()); n != 1 {
			t.Errorf("the write was sent %d times", n)
		}
	})
	t.Run("too slow for a read", func(t *testing.T) {
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		upstream.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) { <-release; return nil, nil })
		refusal{http.StatusGatewayTimeout, codes.DeadlineExceeded, apierror.UpstreamTimeout, ""}.check(t, p.call(t, "GET", "/v1/groups", caller, ""))
	})
	t.Run("too slow for a write", func(t *testing.T) {
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		upstream.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) { <-release; return nil, nil })
		refusal{http.StatusGatewayTimeout, codes.DeadlineExceeded, apierror.OutcomeUnknown, ""}.check(t,
			p.call(t, "POST", "/v1/iam/api_users/"+ulid+":activate", caller, ""))
	})
	t.Run("a malformed response", func(t *testing.T) {
		upstream.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
			broken := dynamicpb.NewMessage(method.Output())
			// Field 1 of every response is a message or a string. This one is a number.
			broken.SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1))
			broken.SetUnknown(append(broken.GetUnknown(), 0xff))
			return []proto.Message{broken}, nil
		})
		a := p.call(t, "GET", "/v1/groups", caller, "")
		refusal{http.StatusBadGateway, codes.Internal, apierror.UpstreamReply, ""}.check(t, a)
		if strings.Contains(string(a.body), "unmarshal") {
			t.Errorf("the error contains internals: %s", a.body)
		}
	})
	t.Run("client disconnected", func(t *testing.T) {
		entered := make(chan struct{}, 1)
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		upstream.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) {
			entered <- struct{}{}
			<-release
			return nil, nil
		})
		ctx, leave := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/v1/users", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = caller.Clone()
		go func() { <-entered; leave() }()
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
			t.Fatalf("unexpected response %s", response.Status)
		}
		p.stderr.Wait(t, `"status":499`)
	})
}

// TestStreamErrors checks errors before and after the first message.
func TestStreamErrors(t *testing.T) {
	upstream := meshtest.NewUpstream(t)
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext")
	caller := http.Header{"X-Api-Key": {strings.Repeat("k", 43)}, "X-Group": {group}}
	path := "/v1/limit_orders/" + ulid + ":monitor"

	t.Run("before the first message", func(t *testing.T) {
		upstream.Fail(status.New(codes.NotFound, "no such order"))
		refusal{http.StatusNotFound, codes.NotFound, "", ""}.check(t, p.call(t, "GET", path, caller, ""))
	})
	t.Run("broken rule", func(t *testing.T) {
		refusal{http.StatusBadRequest, codes.InvalidArgument, apierror.InvalidRequest, "name"}.check(t,
			p.call(t, "GET", "/v1/limit_orders/me:monitor", caller, ""))
	})
	t.Run("no message and no error", func(t *testing.T) {
		upstream.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) { return nil, nil })
		if a := p.call(t, "GET", path, caller, ""); a.status != http.StatusOK || len(a.body) != 0 || a.header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
	})
	t.Run("after the first message", func(t *testing.T) {
		upstream.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
			return []proto.Message{dynamicpb.NewMessage(method.Output())}, status.Error(codes.Unavailable, "the market closed")
		})
		a := p.call(t, "GET", path, caller, "")
		if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%d %v", a.status, a.header)
		}
		lines := strings.Split(strings.TrimSpace(string(a.body)), "\n")
		if len(lines) != 2 || lines[0] != "{}" || !strings.HasPrefix(lines[1], `{"error":{"code":14,"message":"the market closed"`) {
			t.Errorf("lines %q", lines)
		}
	})
}

func TestUpstreamUnreachable(t *testing.T) {
	// The listener is closed, so nothing listens on its port.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := listener.Addr().String()
	listener.Close()
	p := start(t, "--upstream", target, "--upstream-plaintext")
	a := p.call(t, "POST", "/v1/iam/api_users/"+ulid+":activate", http.Header{"X-Api-Key": {strings.Repeat("k", 43)}, "X-Group": {group}}, "")
	refusal{http.StatusServiceUnavailable, codes.Unavailable, apierror.UpstreamUnreachable, ""}.check(t, a)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if strings.Contains(string(a.body), target) {
		t.Errorf("the error contains the address of the upstream: %s", a.body)
	}
	if a := p.call(t, "GET", "/readyz", nil, ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz returned %d", a.status)
	}
	if a := p.call(t, "GET", "/healthz", nil, ""); a.status != http.StatusOK {
		t.Errorf("/healthz returned %d", a.status)
	}
}

// TestViolationsAreReadable checks the descriptions of violations.
func TestViolationsAreReadable(t *testing.T) {
	p := start(t, "--sandbox")
	admin := as(credential(t, "Broker Admin"))
	for _, test := range []struct{ name, method, path, body, field, want string }{
		{"a name", "POST", "/v1/groups", `{"owner": "me", "displayName": "x"}`, "owner", "must be groups/{ULID}"},
		{"a name in the path", "GET", "/v1/groups/me", "", "name", "must be groups/{ULID}"},
		{"a missing enum", "POST", "/v1/limit_orders", `{}`, "side", "must be one of LIMIT_ORDER_SIDE_BUY, LIMIT_ORDER_SIDE_SELL"},
		{"a pattern", "GET", "/v1/reporting/account_reports/12", "", "accountNumber", "must match the pattern ^1[0-9]{6}$"},
		{"a CEL rule of the contract", "POST", "/v1/compliance/clients", `{"shortName": "no"}`, "shortName", "must be empty or 3 or 4 capital letters or digits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			violations, _ := p.call(t, test.method, test.path, admin, test.body).detail(t, "BadRequest")["fieldViolations"].([]any)
			var said []string
			for _, violation := range violations {
				if v, ok := violation.(map[string]any); ok && v["field"] == test.field {
					said = append(said, fmt.Sprint(v["description"]))
				}
			}
			if len(said) != 1 || said[0] != test.want {
				t.Errorf("descriptions %q of %s, want %s", said, test.field, test.want)
			}
		})
	}
}
