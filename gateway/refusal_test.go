package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/gateway"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// refused is a refusal of a request, as a client reads it.
type refused struct {
	status  int
	size    int // of the answer, in bytes
	message string
	fields  []string
	said    map[string]string // what was said first of a field
}

// refuse makes a request that is refused. No call may reach the upstream.
func refuse(t *testing.T, upstream *meshtest.Upstream, verb, path, body string) refused {
	t.Helper()
	got := callUpstream(t, upstream, verb, path, body)
	if calls := upstream.Calls(); len(calls) > 0 {
		t.Errorf("the upstream was called: %v", calls)
	}
	return got
}

func callUpstream(t *testing.T, upstream *meshtest.Upstream, verb, path, body string) refused {
	t.Helper()
	handler, err := gateway.New(upstream.Dial(t))
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequestWithContext(t.Context(), verb, path, strings.NewReader(body))
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	content, err := io.ReadAll(recorder.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Message string
		Details []struct {
			FieldViolations []struct{ Field, Description string }
		}
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		t.Fatalf("%d %.200s: %v", recorder.Code, content, err)
	}
	got := refused{status: recorder.Code, size: len(content), message: answer.Message, said: make(map[string]string)}
	for _, detail := range answer.Details {
		for _, violation := range detail.FieldViolations {
			got.fields = append(got.fields, violation.Field)
			if _, twice := got.said[violation.Field]; !twice {
				got.said[violation.Field] = violation.Description
			}
		}
	}
	return got
}

func TestAllFaultsOfARequestAreListed(t *testing.T) {
	upstream := meshtest.NewUpstream(t)
	for _, test := range []struct {
		name, verb, path, body string
		want                   map[string]string
	}{
		{"an unknown field does not hide broken rules", "POST", "/v1/iam/api_users", `{"owner": "me", "displayNam": "My first key"}`,
			map[string]string{"displayNam": "unknown field", "owner": "must be groups/{ULID}", "displayName": "value is required"}},
		{"nor does a value of the wrong type", "POST", "/v1/groups", `{"owner": "me", "displayName": 1}`,
			map[string]string{"displayName": "must be a string", "owner": "must be groups/{ULID}"}},
		{"nor a member given twice", "POST", "/v1/groups", `{"owner": "me", "displayName": "x", "displayName": "y"}`,
			map[string]string{"displayName": "duplicate field", "owner": "must be groups/{ULID}"}},
		{"an item of the wrong type leaves the index of the others", "POST", "/v1/groups", `{"owner": "groups/01ARZ3NDEKTSV4RRFFQ69G5FAV", "displayName": "x", "owners": [1, "me"]}`,
			map[string]string{"owners[0]": "must be a string", "owners[1]": "must be groups/{ULID}"}},
		{"the query, the path and the body", "PUT", "/v1/groups/me?dryRun=1", `{"name": "groups/other", "owner": 2}`,
			map[string]string{"dryRun": "unknown query parameter; this method takes none", "name": `is "groups/me" in the path but has a different value in the body`,
				"owner": "must be a string", "displayName": "value is required"}},
		{"the query and the path", "GET", "/v1/groups/me?colour=red", "",
			map[string]string{"colour": "unknown query parameter; this method takes fields", "name": "must be groups/{ULID}"}},
		{"a body that is the resource and is not there", "POST", "/v1/groups", "", map[string]string{"": "this method needs a JSON body"}},
		{"a body that is the request", "POST", "/v1/testing/token_taps:mint", `{"nope": 1}`,
			map[string]string{"nope": "unknown field"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := refuse(t, upstream, test.verb, test.path, test.body)
			if got.status != http.StatusBadRequest {
				t.Fatalf("status %d: %s", got.status, got.message)
			}
			for field, description := range test.want {
				if said := got.said[field]; said != description {
					t.Errorf("of %q it says %q, want %q", field, said, description)
				}
			}
		})
	}
}

// TestARefusalIsBounded sends bodies of 200 to 900 kB that could make an answer of
// many times their size.
func TestARefusalIsBounded(t *testing.T) {
	const most = 64 << 10
	upstream := meshtest.NewUpstream(t)
	many := func(n int, member string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.ReplaceAll(member, "#", strconv.Itoa(i)) + ",")
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	owner := `"owner": "groups/01ARZ3NDEKTSV4RRFFQ69G5FAV", "displayName": "x"`
	for _, test := range []struct{ name, path, body, message string }{
		{"unknown fields", "/v1/groups", `{` + many(20_000, `"f#": 1`) + `}`, "f0: unknown field (and 19999 more; see details)"},
		{"items of the wrong type", "/v1/groups", `{"owners": [` + many(100_000, "#") + `]}`, "owners[0]: must be a string (and 99999 more; see details)"},
		{"items that break a rule", "/v1/groups", `{` + owner + `, "owners": [` + many(100_000, `"x"`) + `]}`, "owners[0]: must be groups/{ULID} (and at least 127 more; see details)"},
		{"a long name", "/v1/groups", `{"` + strings.Repeat("x", 900_000) + `": 1}`, ": unknown field (and 2 more; see details)"},
		{"long names", "/v1/groups", `{` + many(100, `"`+strings.Repeat(`\u0001`, 500)+`#": 1`) + `}`, "more; see details)"},
		{"nesting within a field", "/v1/groups", `{"owner": ` + strings.Repeat("[", 900_000), "owner: must be a string (and 1 more; see details)"},
		{"nesting within an unknown field", "/v1/groups", `{"f": ` + strings.Repeat(`{"a":`, 100_000), "f: unknown field (and 1 more; see details)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := refuse(t, upstream, http.MethodPost, test.path, test.body)
			if got.status != http.StatusBadRequest || len(got.fields) > 100 || got.size > most {
				t.Errorf("status %d, %d violations in %d bytes; want 400, at most 100 in %d", got.status, len(got.fields), got.size, most)
			}
			if !strings.HasSuffix(got.message, test.message) {
				t.Errorf("message %.200q, want …%q", got.message, test.message)
			}
		})
	}
}

func TestFieldsOfTheUpstreamAreSpeltAsTheClientDoes(t *testing.T) {
	for _, test := range []struct{ name, verb, path, body, field, want string }{
		{"in the body, which is the resource", "POST", "/v1/limit_orders", validOrder, "limit_order.limit_price.token", "limitPrice.token"},
		{"from the resource on", "POST", "/v1/limit_orders", validOrder, "limit_price.token", "limitPrice.token"},
		{"the resource itself", "POST", "/v1/limit_orders", validOrder, "limit_order", ""},
		{"with an index", "POST", "/v1/limit_orders", validOrder, "limit_order.owners[3]", "owners[3]"},
		{"in the path", "GET", "/v1/limit_orders/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", "name", "name"},
		{"in the query", "GET", "/v1/limit_orders/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", "live_ledger_data", "liveLedgerData"},
		{"one that is not in the contract", "POST", "/v1/limit_orders", validOrder, "order_book.depth", "order_book.depth"},
		{"of a stream", "GET", "/v1/limit_orders/01ARZ3NDEKTSV4RRFFQ69G5FAV:monitor", "", "live_ledger_data", "liveLedgerData"},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := meshtest.NewUpstream(t)
			st, err := status.New(codes.InvalidArgument, "no").WithDetails(&errdetails.BadRequest{
				FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: test.field, Description: "is wrong"}}})
			if err != nil {
				t.Fatal(err)
			}
			upstream.Fail(st)
			got := callUpstream(t, upstream, test.verb, test.path, test.body)
			if len(got.fields) != 1 || got.fields[0] != test.want || got.said[test.want] != "is wrong" {
				t.Errorf("%d %s: fields %q, want %q", got.status, got.message, got.fields, test.want)
			}
		})
	}
}

const validOrder = `{"owner": "groups/01ARZ3NDEKTSV4RRFFQ69G5FAV", "account": "accounts/01ARZ3NDEKTSV4RRFFQ69G5FAV",
	"externalReference": "x", "side": "LIMIT_ORDER_SIDE_BUY",
	"quantity": {"token": {"code": "XLM", "issuer": "__LEDGER__", "ledger": "LEDGER_STELLAR"}, "value": {"value": "1"}},
	"limitPrice": {"token": {"code": "USDC", "issuer": "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN", "ledger": "LEDGER_STELLAR"}, "value": {"value": "0.5"}}}`
