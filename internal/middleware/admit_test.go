package middleware

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/policy"
)

func TestAdmitWritesTheError(t *testing.T) {
	admission, err := policy.New(policy.Limits{Read: policy.Rate{Requests: 1, Period: time.Hour}, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
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

func TestAdmitReleasesACallWhenItsHandlerReturns(t *testing.T) {
	admission, err := policy.New(policy.Limits{Streams: policy.StreamLimits{PerKey: 1, All: 1}, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
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
