package middleware

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

// answering responds to every request with an error, or with 200 if there is none.
func answering(err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err != nil {
			apierror.Write(w, err)
			return
		}
		w.WriteHeader(http.StatusOK)
	})
}

// failuresOf returns the middleware with a budget of two failures in a minute.
func failuresOf() func(http.Handler) http.Handler {
	keys := policy.NewKeys()
	rate := ratelimit.Rate{Requests: 2, Period: time.Minute}
	limited := Failures(policy.NewFailures(rate, ratelimit.NewLimiter(nil), keys), keys)
	return func(next http.Handler) http.Handler { return Observe()(limited(next)) }
}

// from sends a request from an address with a key, which may be "".
func from(handler http.Handler, address, key string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/v1/groups", nil)
	r.RemoteAddr = address + ":1"
	if key != "" {
		r.Header.Set("X-Api-Key", key)
		r.Header.Set("X-Group", testGroup)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// TestWhichFailuresAreCounted makes three requests of a kind from an address that may fail twice.
func TestWhichFailuresAreCounted(t *testing.T) {
	for _, test := range []struct {
		name    string
		err     error
		counted bool
	}{
		{"a success", nil, false},
		{"no credentials", apierror.New(codes.Unauthenticated, apierror.CredentialsMissing, ""), true},
		{"a guessed ticket", apierror.New(codes.Unauthenticated, apierror.CredentialsMalformed, ""), true},
		{"a key that Mesh does not know", status.Error(codes.Unauthenticated, ""), true},
		{"no route", apierror.New(codes.NotFound, apierror.UnknownPath, ""), true},
		{"no such method of a route", apierror.New(codes.Unimplemented, apierror.MethodNotAllowed, "").WithHTTPStatus(http.StatusMethodNotAllowed), true},
		{"a resource that Mesh does not have", status.Error(codes.NotFound, ""), false},
		{"no permission", status.Error(codes.PermissionDenied, ""), false},
		{"an invalid request", apierror.Invalid(), false},
		{"the upstream is down", status.Error(codes.Unavailable, ""), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			handler := failuresOf()(answering(test.err))
			first, _ := from(handler, "192.0.2.1", ""), from(handler, "192.0.2.1", "")
			third := from(handler, "192.0.2.1", "")
			if test.counted {
				wantError(t, third, http.StatusTooManyRequests, apierror.RateLimited)
				if third.Header().Get("Retry-After") != "30" {
					t.Errorf("Retry-After is %q, want 30", third.Header().Get("Retry-After"))
				}
			} else if third.Code != first.Code {
				t.Errorf("status %d after %d", third.Code, first.Code)
			}
			if other := from(handler, "192.0.2.2", ""); other.Code != first.Code {
				t.Errorf("status %d at another address, want %d", other.Code, first.Code)
			}
		})
	}
}

// TestABlockedAddress blocks an address at which a client with a valid key is too.
func TestABlockedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const address = "192.0.2.1"
		limited := failuresOf()
		method := func(err error) http.Handler {
			admit := Admit(policy.New(policy.Limits{Timeout: time.Minute}), policy.Rules{})
			return limited(Method(contract.ByName(readMethod))(admit(answering(err))))
		}
		read, fail := method(nil), method(status.Error(codes.Unauthenticated, ""))
		from(read, address, testKey)
		from(fail, address, otherKey)
		from(fail, address, otherKey)
		for _, test := range []struct {
			name, key string
			want      int
		}{
			{"a key that Mesh has accepted", testKey, http.StatusOK},
			{"another key", otherKey, http.StatusTooManyRequests},
			{"no key", "", http.StatusTooManyRequests},
		} {
			if got := from(read, address, test.key).Code; got != test.want {
				t.Errorf("%s: status %d, want %d", test.name, got, test.want)
			}
		}
		time.Sleep(30 * time.Second)
		if got := from(fail, address, otherKey).Code; got != http.StatusUnauthorized {
			t.Errorf("status %d after Retry-After, want 401", got)
		}
		if got := from(fail, address, testKey).Code; got != http.StatusUnauthorized {
			t.Errorf("status %d with the accepted key, want 401", got)
		}
		if got := from(read, address, testKey).Code; got != http.StatusTooManyRequests {
			t.Errorf("status %d after Mesh has rejected the key, want 429", got)
		}
	})
}
