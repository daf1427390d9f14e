package middleware

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

func TestAdmitWritesTheError(t *testing.T) {
	admission := policy.New(policy.Limits{Read: ratelimit.Rate{Requests: 1, Period: time.Hour}, Timeout: time.Minute})
	credentials := []string{"X-Api-Key", testKey, "X-Group", testGroup}
	// The requests share the rate limit, in this order.
	for _, test := range []struct {
		name   string
		sent   []string
		status int
		reason apierror.Reason
		header string // which the response must have
	}{
		{"no credentials", nil, http.StatusUnauthorized, apierror.CredentialsMissing, "WWW-Authenticate"},
		{"admitted", credentials, http.StatusOK, "", "RateLimit"},
		{"over the rate limit", credentials, http.StatusTooManyRequests, apierror.RateLimited, "Retry-After"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, next := httptest.NewRecorder(), new(capture)
			ClientIP(nil)(Admit(admission, policy.Rules{})(next)).ServeHTTP(w, headers(httptest.NewRequest(http.MethodGet, "/", nil), test.sent...))
			if w.Header().Get(test.header) == "" {
				t.Errorf("no %s in %v", test.header, w.Header())
			}
			if test.reason != "" {
				wantError(t, w, test.status, test.reason)
			}
			if (next.request != nil) != (test.reason == "") {
				t.Errorf("reached the handler: %t", next.request != nil)
			}
		})
	}
}

// TestAdmitCountsBodies has bodies with a Content-Length, which are counted at once, and without one,
// which are counted as they are read.
func TestAdmitCountsBodies(t *testing.T) {
	const size = 1 << 20
	for _, test := range []struct {
		name     string
		declared bool // in Content-Length
		full     bool // the budget
		reached  bool
		reason   apierror.Reason // of the refusal
	}{
		{"room for it", true, false, true, ""},
		{"no room", true, true, false, apierror.Overloaded},
		{"room for it, not declared", false, false, true, ""},
		{"no room, not declared", false, true, true, apierror.Overloaded},
	} {
		t.Run(test.name, func(t *testing.T) {
			memory := budget.New(budget.Options{Limit: budget.MinLimit})
			admission := policy.New(policy.Limits{Timeout: time.Minute, Budget: memory})
			if test.full {
				other, err := memory.Admit(t.Context(), budget.Call{Caller: budget.Caller{'b'}, RPC: "/Other", Write: true})
				if err != nil {
					t.Fatal(err)
				}
				other.Hold(budget.MinLimit - size)
			}
			before := memory.Held()
			r := headers(httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(make([]byte, size))), "X-Api-Key", testKey, "X-Group", testGroup)
			if !test.declared {
				r.ContentLength = -1
			}
			w, reached := httptest.NewRecorder(), false
			ClientIP(nil)(Admit(admission, policy.Rules{Write: true})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reached = true
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					apierror.Write(w, err)
				} else if memory.Held() < before+size {
					t.Errorf("%d bytes are counted", memory.Held()-before)
				}
			}))).ServeHTTP(w, r)
			if reached != test.reached {
				t.Errorf("reached the handler: %t", reached)
			}
			if test.reason != "" {
				wantError(t, w, http.StatusServiceUnavailable, test.reason)
			}
			if memory.Held() != before {
				t.Errorf("held = %d in the end, want %d", memory.Held(), before)
			}
		})
	}
}

func TestAdmitReleasesACallWhenItsHandlerReturns(t *testing.T) {
	admission := policy.New(policy.Limits{Streams: policy.StreamLimits{PerKey: 1, All: 1}, Timeout: time.Minute})
	serve := func(handler http.HandlerFunc) int {
		w := httptest.NewRecorder()
		Observe()(Recover(slog.New(slog.DiscardHandler))(Admit(admission, policy.Rules{Stream: true})(handler))).
			ServeHTTP(w, headers(httptest.NewRequest(http.MethodGet, "/", nil), "X-Api-Key", testKey, "X-Group", testGroup))
		return w.Code
	}
	ok := func(http.ResponseWriter, *http.Request) {}
	serve(func(http.ResponseWriter, *http.Request) {
		if got := serve(ok); got != http.StatusTooManyRequests {
			t.Errorf("status of a second stream is %d, want 429", got)
		}
		panic("boom")
	})
	if got := serve(ok); got != http.StatusOK {
		t.Errorf("status after a stream that panicked is %d, want 200", got)
	}
}
