package middleware

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
)

const (
	apiKeyHeader        = "X-Api-Key" //nolint:gosec // the name of a header
	groupHeader         = "X-Group"
	authorizationHeader = "Authorization"
)

// Auth checks that a request brings the credentials that the method needs, in
// form only; whether they are valid is the upstream's to say. The key comes as
// X-Api-Key or as "Authorization: Bearer" (RFC 6750, section 2.1), the group as
// X-Group. A public method needs neither, but what is sent must be well-formed.
//
// Behind it a request has the key in X-Api-Key alone and no Authorization.
// A refusal names everything that is wrong and never repeats a value.
func Auth(method *contract.Method) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			key, keyProblem := apiKey(r.Header)
			group, groupProblem := groupName(r.Header)

			var problems, missing []string
			for _, problem := range []string{keyProblem, groupProblem} {
				if problem != "" {
					problems = append(problems, problem)
				}
			}
			if !method.Public {
				if key == "" && keyProblem == "" {
					missing = append(missing, `X-Api-Key (the API key; "Authorization: Bearer KEY" is understood too)`)
				}
				if group == "" && groupProblem == "" {
					missing = append(missing, `X-Group (the group to act for, "groups/" and its ULID)`)
				}
			}
			if len(problems)+len(missing) > 0 {
				apierror.Write(w, r, refuse(problems, missing))
				return
			}

			r.Header.Del(authorizationHeader)
			setOrDelete(r.Header, apiKeyHeader, key)
			setOrDelete(r.Header, groupHeader, group)
			next.ServeHTTP(w, r)
		})
	}
}

func refuse(problems, missing []string) *apierror.Error {
	reason := apierror.CredentialsMalformed
	if len(problems) == 0 {
		reason = apierror.CredentialsMissing
	}
	if len(missing) > 0 {
		headers := "the header "
		if len(missing) > 1 {
			headers = "the headers "
		}
		problems = append(problems, "This request needs "+headers+strings.Join(missing, " and ")+".")
	}
	return apierror.New(codes.Unauthenticated, reason, strings.Join(problems, " "))
}

// apiKey is the key of a request, empty where it has none, or what is wrong
// with it.
func apiKey(header http.Header) (key, problem string) {
	keys, authorizations := header.Values(apiKeyHeader), header.Values(authorizationHeader)
	if len(keys) > 1 {
		return "", "X-Api-Key must be sent once."
	}
	if len(keys) == 1 {
		key = keys[0]
	}

	// Beside a key the upstream's own header decides, and an Authorization of
	// another scheme is some proxy's business.
	bearer := ""
	switch {
	case len(authorizations) > 1:
		return "", "Authorization must be sent once."
	case len(authorizations) == 1 && authorizations[0] != "":
		scheme, token, _ := strings.Cut(authorizations[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			if bearer = strings.TrimSpace(token); bearer == "" {
				return "", "Authorization: Bearer must be followed by the API key."
			}
		} else if key == "" {
			return "", "Of the Authorization schemes only Bearer is understood; send the API key as X-Api-Key or as Authorization: Bearer KEY."
		}
	}
	if key != "" && bearer != "" && key != bearer {
		return "", "X-Api-Key and Authorization: Bearer hold different keys; send one of them."
	}
	if key == "" {
		key = bearer
	}
	if key != "" && !credentials.ValidKey(key) {
		return "", "The API key is malformed: it is 43 characters of A-Z, a-z, 0-9, - and _."
	}
	return key, ""
}

// groupName is the group of a request, empty where it has none, or what is
// wrong with it.
func groupName(header http.Header) (group, problem string) {
	groups := header.Values(groupHeader)
	switch {
	case len(groups) > 1:
		return "", "X-Group must be sent once."
	case len(groups) == 0 || groups[0] == "":
		return "", ""
	case !credentials.ValidGroup(groups[0]):
		return "", `X-Group is malformed: it is "groups/" and a ULID, 26 characters of 0-9 and A-Z without I, L, O and U.`
	}
	return groups[0], ""
}

func setOrDelete(header http.Header, name, value string) {
	if value == "" {
		header.Del(name)
		return
	}
	header.Set(name, value)
}
