package middleware

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

func TestAuth(t *testing.T) {
	const (
		missing   = apierror.CredentialsMissing
		malformed = apierror.CredentialsMalformed
	)
	group := []string{"X-Group", testGroup}
	both := func(pairs ...string) []string { return append(pairs, group...) }
	for _, test := range []struct {
		name    string
		public  bool
		sent    []string
		reason  apierror.Reason // empty where the request passes
		message []string
		key     string // behind the middleware
	}{
		{"key and group", false, both("X-Api-Key", testKey), "", nil, testKey},
		{"bearer", false, both("Authorization", "Bearer "+testKey), "", nil, testKey},
		{"bearer, scheme in other case", false, both("Authorization", "bEARER  "+testKey), "", nil, testKey},
		{"key and the same bearer", false, both("X-Api-Key", testKey, "Authorization", "Bearer "+testKey), "", nil, testKey},
		{"key beside another scheme", false, both("X-Api-Key", testKey, "Authorization", "Basic eDp5"), "", nil, testKey},

		{"nothing", false, nil, missing, []string{"the headers X-Api-Key", "X-Group", "Bearer"}, ""},
		{"no group", false, []string{"X-Api-Key", testKey}, missing, []string{"the header X-Group"}, ""},
		{"no key", false, group, missing, []string{"the header X-Api-Key"}, ""},
		{"empty key", false, both("X-Api-Key", ""), missing, []string{"the header X-Api-Key"}, ""},
		{"empty group", false, []string{"X-Api-Key", testKey, "X-Group", ""}, missing, []string{"the header X-Group"}, ""},

		{"key of 42", false, both("X-Api-Key", testKey[:42]), malformed, []string{"API key is malformed", "43 characters"}, ""},
		{"key of 44", false, both("X-Api-Key", testKey+"x"), malformed, []string{"API key is malformed"}, ""},
		{"key with another character", false, both("X-Api-Key", testKey[:42]+"+"), malformed, []string{"API key is malformed"}, ""},
		{"malformed bearer", false, both("Authorization", "Bearer "+testKey[:42]), malformed, []string{"API key is malformed"}, ""},
		{"bearer without a key", false, both("Authorization", "Bearer"), malformed, []string{"must be followed"}, ""},
		{"another scheme", false, both("Authorization", "Basic eDp5"), malformed, []string{"only Bearer"}, ""},
		{"two keys", false, both("X-Api-Key", testKey, "X-Api-Key", testKey), malformed, []string{"X-Api-Key must be sent once"}, ""},
		{"two authorizations", false, both("Authorization", "Bearer "+testKey, "Authorization", "Bearer "+testKey), malformed, []string{"Authorization must be sent once"}, ""},
		{"key and another bearer", false, both("X-Api-Key", testKey, "Authorization", "Bearer "+otherKey), malformed, []string{"different keys"}, ""},
		{"two groups", false, both("X-Api-Key", testKey, "X-Group", testGroup), malformed, []string{"X-Group must be sent once"}, ""},
		{"ULID of 25", false, []string{"X-Api-Key", testKey, "X-Group", testGroup[:len(testGroup)-1]}, malformed, []string{"X-Group is malformed"}, ""},
		{"ULID of 27", false, []string{"X-Api-Key", testKey, "X-Group", testGroup + "0"}, malformed, []string{"X-Group is malformed"}, ""},
		{"both malformed", false, []string{"X-Api-Key", testKey[:42], "X-Group", "groups/x"}, malformed, []string{"API key is malformed", "X-Group is malformed"}, ""},
		{"malformed key, no group", false, []string{"X-Api-Key", testKey[:42]}, malformed, []string{"API key is malformed", "the header X-Group"}, ""},

		{"public, nothing", true, nil, "", nil, ""},
		{"public, empty key", true, []string{"X-Api-Key", ""}, "", nil, ""},
		{"public, key", true, []string{"X-Api-Key", testKey}, "", nil, testKey},
		{"public, bearer", true, []string{"Authorization", "Bearer " + testKey}, "", nil, testKey},
		{"public, malformed key", true, []string{"X-Api-Key", testKey[:42]}, malformed, []string{"API key is malformed"}, ""},
		{"public, malformed group", true, []string{"X-Group", "groups/x"}, malformed, []string{"X-Group is malformed"}, ""},
		{"public, another scheme", true, []string{"Authorization", "Basic eDp5"}, malformed, []string{"only Bearer"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, next := httptest.NewRecorder(), new(capture)
			Auth(&contract.Method{Public: test.public})(next).ServeHTTP(w, headers(httptest.NewRequest(http.MethodGet, "/", nil), test.sent...))
			if test.reason == "" {
				if next.request == nil {
					t.Fatalf("refused: %s", w.Body)
				}
				got := next.request.Header
				if _, left := got["Authorization"]; left {
					t.Error("Authorization is left")
				}
				if test.key == "" && len(got.Values("X-Api-Key")) > 0 || test.key != "" && (len(got.Values("X-Api-Key")) != 1 || got.Get("X-Api-Key") != test.key) {
					t.Errorf("X-Api-Key %q, want %q", got.Values("X-Api-Key"), test.key)
				}
				return
			}
			if next.request != nil {
				t.Fatal("passed")
			}
			message := wantRefusal(t, w, http.StatusUnauthorized, test.reason)
			for _, part := range test.message {
				if !strings.Contains(message, part) {
					t.Errorf("message %q, want %q in it", message, part)
				}
			}
			if w.Header().Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
			for _, value := range []string{testKey[:10], otherKey[:10], testGroup[7:17], "eDp5"} {
				if strings.Contains(w.Body.String(), value) {
					t.Errorf("the answer repeats %q", value)
				}
			}
		})
	}
}
