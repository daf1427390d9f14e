package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wirejson"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
)

// testRoute returns the route of an RPC. Only its decoding works.
func testRoute(t testing.TB, rpc string) *route {
	t.Helper()
	rules, err := newRules()
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range contract.Methods() {
		if string(method.Descriptor.Name()) == rpc {
			return newRoute(method.Bindings[0], nil, &options{fallback: func(Method) {}}, rules, nil, nil, new(wirejson.Types))
		}
	}
	t.Fatalf("the contract has no %s", rpc)
	return nil
}

// walk reports what the walker finds in a body.
func walk(rt *route, body string) []apierror.Violation {
	q := &request{route: rt, ctx: context.Background()}
	w := walker{ctx: q.ctx, route: rt, found: &q.problems, body: []byte(body)}
	w.walk(rt.bodyField.Message())
	return q.problems.List()
}

func TestWalker(t *testing.T) {
	deep := func(levels int) string {
		return strings.Repeat(`{"company":{"connectedLegalPersons":[`, levels) + strings.Repeat(`]}}`, levels)
	}
	rt := testRoute(t, "CreateClient")
	for _, test := range []struct {
		name, body string
		want       string // the first violation, "field: description"; "" is none
	}{
		{"empty object", `{}`, ""},
		{"null is absent", `{"name": null, "company": null, "owners": null}`, ""},
		{"both spellings", `{"displayName": "x", "short_name": "ABC"}`, ""},
		{"enum by name", `{"status": "CLIENT_STATUS_ACTIVE"}`, ""},
		{"enum by number", `{"status": 1}`, ""},
		{"unknown enum number", `{"status": 4}`, "status: must be one of CLIENT_STATUS_ACTIVE, CLIENT_STATUS_INACTIVE, CLIENT_STATUS_COMPLETE_PROFILE"},
		{"an integer written as a decimal", `{"roles": [1.0, 1e2]}`, ""},
		{"the least integer, as a decimal", `{"roles": [-2147483648.0]}`, ""},
		{"half a surrogate pair", `{"name": "\ud800"}`, "name: must be a string"},
		{"escaped characters", `{"name": "\ud83d\ude42 \ufffd \n"}`, ""},
		{"a fraction for an integer", `{"roles": [1.5]}`, "roles[0]: must be a 32-bit integer"},
		{"too large an integer", `{"roles": [1, 2147483648]}`, "roles[1]: must be a 32-bit integer"},
		{"a string for an object", `{"company": "x"}`, "company: must be a JSON object"},
		{"an object for an array", `{"owners": {"a": [1]}}`, "owners: must be a JSON array"},
		{"an array for a string", `{"name": []}`, "name: must be a string"},
		{"null in an array", `{"owners": [null]}`, "owners[0]: must be a string"},
		{"a time", `{"creationDate": "2026-01-31T09:30:00.5+02:00"}`, ""},
		{"no time", `{"creationDate": "2026-01-31"}`, "creationDate: must be an RFC 3339 time such as 2026-01-31T09:30:00Z"},
		{"unknown and nested", `{"company": {"nope": {"a": [1, {}]}, "vatNo": 1}}`, "company.nope: unknown field"},
		{"a type URL is no field", `{"@type": "x"}`, "@type: unknown field"},
		{"an array", `[]`, ": the body must be a JSON object"},
		{"null", `null`, ": the body must be a JSON object"},
		{"cut off", "{\n  \"name\": \"x\"", ": malformed JSON at line 2, column 14: unexpected end of input"},
		{"two objects", `{} {}`, ": malformed JSON at line 1, column 5: unexpected data after the object"},
		{"not UTF-8", "{\"name\": \"\xff\"}", ": malformed JSON at line 1, column 11: not UTF-8"},
		{"deep", deep(49), ""},
		{"too deep", deep(51), "is nested deeper than 100 levels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got string
			if violations := walk(rt, test.body); len(violations) > 0 {
				got = violations[0].Field + ": " + violations[0].Description
			}
			if got != test.want && (test.name != "too deep" || !strings.HasSuffix(got, test.want)) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// FuzzWalker compares the walker with protojson: it must find a fault in every body
// that protojson refuses, or the client would not learn what is wrong, and none in a
// JSON body that protojson accepts, except the number of an enum that does not exist. protojson accepts
// some that are not JSON: an exponent may have no digits.
func FuzzWalker(f *testing.F) {
	for _, body := range []string{
		`{}`, `{"name": "x", "name": "y"}`, `{"company": {"taxResidencies": [{"tin": "1"}]}}`, `{"roles": [1.0, "2"]}`,
		`{"creationDate": "2026-01-31T09:30:00Z"}`, `{"fund": {}, "trust": {}}`, `{"fund": null, "trust": {}}`, `[`, `{"a":}`, `{"status":"CLIENT_STATUS_ACTIVE"}`,
		`{"name":"\ud800"}`, `{"roles":[1e400]}`, `{"roles":[0e]}`, `{"owners":["a",]}`, `{"name":1 "owner":2}`, `{,}`,
	} {
		f.Add(body)
	}
	rt := testRoute(f, "CreateClient")
	f.Fuzz(func(t *testing.T, body string) {
		violations := walk(rt, body)
		message := new(clientv1.Client)
		err := strict.Unmarshal([]byte(body), message)
		switch refused := err != nil || rt.enums.unknownIn(message.ProtoReflect()); {
		case refused && len(violations) == 0:
			t.Errorf("no fault in %q, which protojson refuses: %v", body, err)
		case !refused && len(violations) > 0 && json.Valid([]byte(body)):
			t.Errorf("%q is accepted by protojson, but the walker finds %v", body, violations)
		}
	})
}

func TestRefusalsAreTyped(t *testing.T) {
	if _, ok := errors.AsType[*apierror.Error](unreadable(errors.New("reset"))); !ok {
		t.Error("a body that breaks off is a defect")
	}
}

// TestWorkStopsWithTheRequest has bodies that would be explained, of requests that
// have ended.
func TestWorkStopsWithTheRequest(t *testing.T) {
	rt := testRoute(t, "CreateClient")
	body := `{"owners": [` + strings.Repeat("1,", 1000) + `1]}`
	for _, test := range []struct {
		name  string
		cause error
		code  codes.Code
	}{{"the client left", context.Canceled, codes.Canceled}, {"its time ran out", context.DeadlineExceeded, codes.DeadlineExceeded}} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
			if test.code == codes.Canceled {
				ctx, cancel = context.WithCancel(t.Context())
			}
			cancel()
			q := &request{route: rt, ctx: ctx}
			err := q.explain([]byte(body))
			if status.Code(err) != test.code || !strings.Contains(err.Error(), "Nothing was sent") {
				t.Errorf("%v, want %s", err, test.code)
			}
			if n := len(q.problems.List()); n > 0 {
				t.Errorf("%d faults were looked for", n)
			}
		})
	}
}
