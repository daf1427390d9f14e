package apierror_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

func TestHTTPStatusOfEveryCode(t *testing.T) {
	want := map[codes.Code]int{
		codes.OK: 200, codes.Canceled: 499, codes.Unknown: 500, codes.InvalidArgument: 400,
		codes.DeadlineExceeded: 504, codes.NotFound: 404, codes.AlreadyExists: 409,
		codes.PermissionDenied: 403, codes.ResourceExhausted: 429, codes.FailedPrecondition: 400,
		codes.Aborted: 409, codes.OutOfRange: 400, codes.Unimplemented: 501, codes.Internal: 500,
		codes.Unavailable: 503, codes.DataLoss: 500, codes.Unauthenticated: 401,
	}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if got := apierror.HTTPStatus(code); got != want[code] {
			t.Errorf("%s: %d, want %d", code, got, want[code])
		}
	}
}

func TestWrite(t *testing.T) {
	retry, err := status.New(codes.Unavailable, "later").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	unknown := status.FromProto(&spb.Status{Code: int32(codes.NotFound), Message: "no",
		Details: []*anypb.Any{{TypeUrl: "type.googleapis.com/mesh.Secret", Value: []byte{1}}}})

	for _, test := range []struct {
		name       string
		err        error
		status     int
		retryAfter string
		has, lacks string
	}{
		{"an error of the gateway", apierror.New(codes.NotFound, apierror.UnknownPath, "nothing"), 404, "", `"reason":"UNKNOWN_PATH"`, ""},
		{"another HTTP status", apierror.New(codes.Unimplemented, apierror.MethodNotAllowed, "no").WithHTTPStatus(405), 405, "", `"code":12`, ""},
		{"a wrapped error", fmt.Errorf("x: %w", apierror.New(codes.NotFound, apierror.UnknownPath, "nothing")), 404, "", "UNKNOWN_PATH", "x:"},
		{"a status of the upstream", status.Error(codes.FailedPrecondition, "not yet"), 400, "", `"message":"not yet"`, "ErrorInfo"},
		{"a status with RetryInfo", retry.Err(), 503, "2", "RetryInfo", ""},
		{"a status without RetryInfo", status.Error(codes.Unavailable, "later"), 503, "1", "", ""},
		{"a write whose outcome is unknown", apierror.New(codes.Unavailable, apierror.OutcomeUnknown, "look"), 503, "", "OUTCOME_UNKNOWN", ""},
		{"a key that is in use", apierror.New(codes.Aborted, apierror.IdempotencyKeyInUse, "later"), 409, "1", "IDEMPOTENCY_KEY_IN_USE", ""},
		{"another conflict", apierror.New(codes.Aborted, apierror.OutcomeUnknown, "look"), 409, "", "OUTCOME_UNKNOWN", ""},
		{"a conflict of the upstream", status.Error(codes.Aborted, "no"), 409, "", `"message":"no"`, ""},
		{"a detail of an unknown type", unknown.Err(), 404, "", `"message":"no"`, "Secret"},
		{"a defect", errors.New("dial tcp 10.0.0.1: key=secret"), 500, "", `"reason":"INTERNAL"`, "secret"},
		{"a message that is not UTF-8", status.Error(codes.NotFound, "\xff"), 404, "", `"code":`, "\xff"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			w.Header().Set("X-Request-Id", "id-1")
			apierror.Write(w, test.err)
			// protojson varies its white space.
			body := strings.ReplaceAll(w.Body.String(), `": `, `":`)
			if w.Code != test.status || w.Header().Get("Retry-After") != test.retryAfter {
				t.Errorf("status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
			}
			if !json.Valid(w.Body.Bytes()) || !strings.Contains(body, test.has) || test.lacks != "" && strings.Contains(body, test.lacks) {
				t.Errorf("body %s: want %s and not %s", body, test.has, test.lacks)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
}

func TestUnauthorizedHasWWWAuthenticate(t *testing.T) {
	w := httptest.NewRecorder()
	apierror.Write(w, status.Error(codes.Unauthenticated, "who?"))
	if w.Header().Get("WWW-Authenticate") == "" || w.Code != http.StatusUnauthorized {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestInvalidListsEveryViolation(t *testing.T) {
	err := apierror.Invalid(apierror.Violation{Field: "a.b", Description: "must be a string"}, apierror.Violation{Field: "c", Description: "unknown field"})
	if err.Error() != "a.b: must be a string (and 1 more; see details)" {
		t.Error(err)
	}
	for _, detail := range err.GRPCStatus().Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) == 2 {
			return
		}
	}
	t.Error("the violations are not in the details")
}

// TestEveryReasonHasAMeaning reads the constants from the source, so that the test covers new ones.
func TestEveryReasonHasAMeaning(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "apierror.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Reason" {
			return true
		}
		count++
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if apierror.Reason(value).Meaning() == "" {
			t.Errorf("%s has no meaning", value)
		}
		return true
	})
	if reasons := apierror.Reasons(); count == 0 || count != len(reasons) {
		t.Errorf("%d constants, %d reasons", count, len(reasons))
	}
	if meaning := apierror.Reason("OTHER").Meaning(); meaning != "" {
		t.Errorf("an unknown reason has the meaning %q", meaning)
	}
}
