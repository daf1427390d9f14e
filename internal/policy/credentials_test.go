package policy

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	testKey   = "Zq3-_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789Zq"
	otherKey  = "Xq3-_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789Xq"
	testGroup = "groups/01HZXJ5K8MNPQRSTVWXYZ01234"
)

// headerOf returns a header of pairs of names and values. A name may be repeated.
func headerOf(pairs ...string) http.Header {
	header := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		header.Add(pairs[i], pairs[i+1])
	}
	return header
}

// wantError checks the code and the reason of an error.
func wantError(t *testing.T, err error, code codes.Code, reason apierror.Reason) {
	t.Helper()
	if status.Code(err) != code || apierror.ReasonOf(err) != string(reason) {
		t.Errorf("error %s %s (%v), want %s %s", status.Code(err), apierror.ReasonOf(err), err, code, reason)
	}
}

func TestAuthenticate(t *testing.T) {
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
		reason  apierror.Reason // empty if there is no error
		message []string
		key     string // the result
	}{
		{"key and group", false, both("X-Api-Key", testKey), "", nil, testKey},
		{"bearer", false, both("Authorization", "Bearer "+testKey), "", nil, testKey},
		{"bearer, scheme in other case", false, both("Authorization", "bEARER  "+testKey), "", nil, testKey},
		{"key and the same bearer", false, both("X-Api-Key", testKey, "Authorization", "Bearer "+testKey), "", nil, testKey},
		{"key and another scheme", false, both("X-Api-Key", testKey, "Authorization", "Basic eDp5"), "", nil, testKey},

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
		{"another scheme", false, both("Authorization", "Basic eDp5"), malformed, []string{"scheme is Bearer"}, ""},
		{"two keys", false, both("X-Api-Key", testKey, "X-Api-Key", testKey), malformed, []string{"X-Api-Key must be sent only once"}, ""},
		{"two authorizations", false, both("Authorization", "Bearer "+testKey, "Authorization", "Bearer "+testKey), malformed, []string{"Authorization must be sent only once"}, ""},
		{"key and another bearer", false, both("X-Api-Key", testKey, "Authorization", "Bearer "+otherKey), malformed, []string{"different keys"}, ""},
		{"two groups", false, both("X-Api-Key", testKey, "X-Group", testGroup), malformed, []string{"X-Group must be sent only once"}, ""},
		{"ULID of 25", false, []string{"X-Api-Key", testKey, "X-Group", testGroup[:len(testGroup)-1]}, malformed, []string{"X-Group is malformed"}, ""},
		{"ULID of 27", false, []string{"X-Api-Key", testKey, "X-Group", testGroup + "0"}, malformed, []string{"X-Group is malformed"}, ""},
		{"both malformed", false, []string{"X-Api-Key", testKey[:42], "X-Group", "groups/x"}, malformed, []string{"API key is malformed", "X-Group is malformed"}, ""},
		{"malformed key, no group", false, []string{"X-Api-Key", testKey[:42]}, malformed, []string{"API key is malformed", "the header X-Group"}, ""},

		{"public, nothing", true, nil, "", nil, ""},
		{"public, empty key", true, []string{"X-Api-Key", ""}, "", nil, ""},
		{"public, key", true, []string{"X-Api-Key", testKey}, "", nil, testKey},
		{"public, bearer", true, []string{"Authorization", "Bearer " + testKey}, "", nil, testKey},
		{"public, malformed key", true, []string{"X-Api-Key", testKey[:42]}, malformed, []string{"API key is malformed"}, ""},
		{"public, group", true, []string{"X-Group", testGroup}, "", nil, ""},
		{"public, malformed group", true, []string{"X-Group", "groups/x"}, "", nil, ""},
		{"public, two groups", true, []string{"X-Group", "groups/x", "X-Group", "groups/y"}, "", nil, ""},
		{"public, key and malformed group", true, []string{"X-Api-Key", testKey, "X-Group", "groups/x"}, "", nil, testKey},
		{"public, malformed key and group", true, []string{"X-Api-Key", testKey[:42], "X-Group", "groups/x"}, malformed, []string{"API key is malformed"}, ""},
		{"public, another scheme", true, []string{"Authorization", "Basic eDp5"}, malformed, []string{"scheme is Bearer"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := headerOf(test.sent...)
			key, err := authenticate(header, test.public)
			if test.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, left := header["Authorization"]; left {
					t.Error("Authorization was not removed")
				}
				if forwarded := header.Values("X-Group"); test.public && len(forwarded) > 0 {
					t.Errorf("X-Group %q is forwarded to a public method", forwarded)
				}
				sent := header.Values("X-Api-Key")
				if key != test.key || test.key == "" && len(sent) > 0 || test.key != "" && (len(sent) != 1 || sent[0] != test.key) {
					t.Errorf("key %q, X-Api-Key %q, want %q", key, sent, test.key)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			wantError(t, err, codes.Unauthenticated, test.reason)
			for _, part := range test.message {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("message %q does not contain %q", err, part)
				}
			}
			for _, value := range []string{testKey[:10], otherKey[:10], testGroup[7:17], "eDp5"} {
				if strings.Contains(err.Error(), value) {
					t.Errorf("the error contains %q", value)
				}
			}
		})
	}
}
