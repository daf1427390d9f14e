package gateway

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
)

// check runs the checker over a body of the type that nests deepest.
func check(body string) []apierror.Violation {
	var c checker
	c.document((*clientv1.Client)(nil).ProtoReflect().Descriptor(), "client", []byte(body))
	return c.violations
}

func TestChecker(t *testing.T) {
	deep := func(levels int) string {
		return strings.Repeat(`{"company":{"connectedLegalPersons":[`, levels) + strings.Repeat(`]}}`, levels)
	}
	for _, test := range []struct {
		name, body string
		want       string // the first violation, "field: description"; "" is none
	}{
		{"empty object", `{}`, ""},
		{"null is absent", `{"name": null, "company": null, "owners": null}`, ""},
		{"both spellings", `{"displayName": "x", "short_name": "ABC"}`, ""},
		{"enum by name", `{"status": "CLIENT_STATUS_ACTIVE"}`, ""},
		{"enum by number", `{"status": 1}`, ""},
		{"unknown enum number", `{"status": 4}`, "client.status: must be one of CLIENT_STATUS_ACTIVE, CLIENT_STATUS_INACTIVE, CLIENT_STATUS_COMPLETE_PROFILE"},
		{"an integer written as a decimal", `{"roles": [1.0, 1e2]}`, ""},
		{"a fraction for an integer", `{"roles": [1.5]}`, "client.roles[0]: must be a 32-bit integer"},
		{"too large an integer", `{"roles": [1, 2147483648]}`, "client.roles[1]: must be a 32-bit integer"},
		{"a string for an object", `{"company": "x"}`, "client.company: must be a JSON object"},
		{"an object for an array", `{"owners": {"a": [1]}}`, "client.owners: must be a JSON array"},
		{"an array for a string", `{"name": []}`, "client.name: must be a string"},
		{"null in an array", `{"owners": [null]}`, "client.owners[0]: must be a string"},
		{"a time", `{"creationDate": "2026-01-31T09:30:00.5+02:00"}`, ""},
		{"no time", `{"creationDate": "2026-01-31"}`, "client.creationDate: must be an RFC 3339 time such as 2026-01-31T09:30:00Z"},
		{"unknown and nested", `{"company": {"nope": {"a": [1, {}]}, "vatNo": 1}}`, "client.company.nope: unknown field"},
		{"a type URL is no field", `{"@type": "x"}`, "client.@type: unknown field"},
		{"an array", `[]`, "client: the body must be a JSON object"},
		{"null", `null`, "client: the body must be a JSON object"},
		{"cut off", "{\n  \"name\": \"x\"", "client: malformed JSON at line 2, column 14: it ends too early"},
		{"two objects", `{} {}`, "client: malformed JSON at line 1, column 5: something follows the object"},
		{"not UTF-8", "{\"name\": \"\xff\"}", "client: malformed JSON at line 1, column 11: not UTF-8"},
		{"deep", deep(49), ""},
		{"too deep", deep(51), "is nested deeper than 100 levels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got string
			if violations := check(test.body); len(violations) > 0 {
				got = violations[0].Field + ": " + violations[0].Description
			}
			if got != test.want && (test.name != "too deep" || !strings.HasSuffix(got, test.want)) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// FuzzChecker holds the checker against protojson: it must refuse whatever
// protojson refuses, or the client would be told less than the whole.
func FuzzChecker(f *testing.F) {
	for _, body := range []string{
		`{}`, `{"name": "x", "name": "y"}`, `{"company": {"taxResidencies": [{"tin": "1"}]}}`, `{"roles": [1.0, "2"]}`,
		`{"creationDate": "2026-01-31T09:30:00Z"}`, `{"fund": {}, "trust": {}}`, `{"fund": null, "trust": {}}`, `[`, `{"a":}`, `{"status":"CLIENT_STATUS_ACTIVE"}`,
		`{"name":"\ud800"}`, `{"roles":[1e400]}`, `{"owners":["a",]}`, `{"name":1 "owner":2}`, `{,}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		violations := check(body)
		for _, message := range []proto.Message{new(clientv1.Client), dynamicpb.NewMessage((*clientv1.Client)(nil).ProtoReflect().Descriptor())} {
			if err := protojson.Unmarshal([]byte(body), message); err != nil && len(violations) == 0 {
				t.Fatalf("passes %q, which protojson refuses: %v", body, err)
			}
		}
	})
}

func TestRefusalsAreTyped(t *testing.T) {
	if _, ok := errors.AsType[*apierror.Error](unreadable(errors.New("reset"))); !ok {
		t.Error("a body that breaks off is a defect")
	}
}
