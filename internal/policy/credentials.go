package policy

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// authenticate checks that a request has the credentials that its method needs, in
// form only; whether they are valid is for the upstream to say. The key comes as
// X-Api-Key or as "Authorization: Bearer" (RFC 6750, section 2.1), the group as
// X-Group. A public method needs neither, but what is sent must be well-formed.
//
// It returns the key, "" where there is none, and leaves it in X-Api-Key alone. The
// error names everything that is wrong and never repeats a value.
func authenticate(header http.Header, public bool) (string, error) {
	key, keyProblem := apiKey(header)
	group, groupProblem := groupName(header)

	var problems, missing []string
	if keyProblem != "" {
		problems = append(problems, keyProblem)
	} else if key == "" && !public {
		missing = append(missing, `X-Api-Key (the API key; "Authorization: Bearer KEY" is understood too)`)
	}
	if groupProblem != "" {
		problems = append(problems, groupProblem)
	} else if group == "" && !public {
		missing = append(missing, `X-Group (the group to act for, "groups/" and its ULID)`)
	}
	if len(problems)+len(missing) > 0 {
		return "", refuse(problems, missing)
	}

	header.Del(wire.AuthorizationHeader)
	setOrDelete(header, wire.APIKeyHeader, key)
	setOrDelete(header, wire.GroupHeader, group)
	return key, nil
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

// apiKey returns the key of a request, "" where it has none, or what is wrong with
// it.
func apiKey(header http.Header) (key, problem string) {
	keys, authorizations := header.Values(wire.APIKeyHeader), header.Values(wire.AuthorizationHeader)
	if len(keys) > 1 {
		return "", "X-Api-Key must be sent once."
	}
	if len(keys) == 1 {
		key = keys[0]
	}

	// Beside X-Api-Key an Authorization of another scheme is meant for a proxy in
	// front of the gateway.
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

// groupName returns the group of a request, "" where it has none, or what is wrong
// with it.
func groupName(header http.Header) (group, problem string) {
	groups := header.Values(wire.GroupHeader)
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
	switch {
	case value == "":
		header.Del(name)
	case header.Get(name) != value:
		header.Set(name, value)
	}
}
