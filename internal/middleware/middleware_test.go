package middleware

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	testKey    = "Zq3-_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789Zq"
	otherKey   = "Xq3-_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789Xq"
	testGroup  = "groups/01HZXJ5K8MNPQRSTVWXYZ01234"
	otherGroup = "groups/01HZXJ5K8MNPQRSTVWXYZ01235"
)

// capture is a handler that keeps its request.
type capture struct{ request *http.Request }

func (c *capture) ServeHTTP(_ http.ResponseWriter, r *http.Request) { c.request = r }

// headers adds pairs of names and values to the header of r.
func headers(r *http.Request, pairs ...string) *http.Request {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == "Host" {
			r.Host = pairs[i+1]
			continue
		}
		r.Header.Add(pairs[i], pairs[i+1])
	}
	return r
}

// wantError checks the status and the reason of an error response and returns its message.
func wantError(t *testing.T, w *httptest.ResponseRecorder, status int, reason apierror.Reason) string {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d", w.Code, status)
	}
	var body struct {
		Message string
		Details []struct{ Reason, Domain string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("body %q: %v", w.Body, err)
	}
	if len(body.Details) == 0 || body.Details[0].Reason != string(reason) || body.Details[0].Domain != apierror.Domain {
		t.Errorf("details %+v, want reason %s", body.Details, reason)
	}
	return body.Message
}
