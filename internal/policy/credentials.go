package policy

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// authenticate checks that a request has well-formed credentials. The upstream checks whether they
// are valid. The key is in X-Api-Key or in "Authorization: Bearer" (RFC 6750, section 2.1), the
// group in X-Group. A public method requires neither. It ignores X-Group, which is not forwarded, but a
// key that is sent must be well-formed.
//
// It returns the key, or "" if there is none, and moves it to X-Api-Key. The error lists everything
// that is wrong and never contains a value.
func authenticate(header http.Header, public bool) (string, error) {
	if public {
		header.Del(wire.GroupHeader)
	}
	key, keyProblem := apiKey(header)
	group, groupProblem := groupName(header)

	var problems, missing []string
	if keyProblem != "" {
		problems = append(problems, keyProblem)
	} else if key == "" && !public {
		missing = append(missing, `X-Api-Key (the API key; "Authorization: Bearer KEY" is accepted too)`)
	}
	if groupProblem != "" {
		problems = append(problems, groupProblem)
	} else if group == "" && !public {
		missing = append(missing, `X-Group (the group to act for, "groups/" and its ULID)`)
	}
	if len(problems)+len(missing) > 0 {
		return "", credentialsError(problems, missing)
	}

	header.Del(wire.AuthorizationHeader)
	setOrDelete(header, wire.APIKeyHeader, key)
	setOrDelete(header, wire.GroupHeader, group)
	return key, nil
}

// credentialsError returns an error that lists the problems and the missing headers.
func credentialsError(problems, missing []string) *apierror.Error {
	reason := apierror.CredentialsMalformed
	if len(problems) == 0 {
		reason = apierror.CredentialsMissing
	}
	if len(missing) > 0 {
		headers := "the header "
		if len(missing) > 1 {
			headers = "the headers "
		}
		problems = append(problems, "This request requires "+headers+strings.Join(missing, " and ")+".")
	}
	return apierror.New(codes.Unauthenticated, reason, strings.Join(problems, " "))
}

// KeyOf returns the API key of a request, or "" if there is none or if it is malformed.
func KeyOf(header http.Header) string {
	key, _ := apiKey(header)
	return key
}

// apiKey returns the key of a request, or "" if there is none. problem describes what is wrong with
// it.
func apiKey(header http.Header) (key, problem string) {
	keys, authorizations := header.Values(wire.APIKeyHeader), header.Values(wire.AuthorizationHeader)
	if len(keys) > 1 {
		return "", "X-Api-Key must be sent only once."
	}
	if len(keys) == 1 {
		key = keys[0]
	}

	// If there is an X-Api-Key, an Authorization with another scheme is ignored: it may be meant
	// for a proxy in front of the gateway.
	bearer := ""
	switch {
	case len(authorizations) > 1:
		return "", "Authorization must be sent only once."
	case len(authorizations) == 1 && authorizations[0] != "":
		scheme, token, _ := strings.Cut(authorizations[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			if bearer = strings.TrimSpace(token); bearer == "" {
				return "", "Authorization: Bearer must be followed by the API key."
			}
		} else if key == "" {
			return "", "The only supported Authorization scheme is Bearer. Send the API key as X-Api-Key or as Authorization: Bearer KEY."
		}
	}
	if key != "" && bearer != "" && key != bearer {
		return "", "X-Api-Key and Authorization: Bearer contain different keys. Send only one of them."
	}
	if key == "" {
		key = bearer
	}
	if key != "" && !credentials.ValidKey(key) {
		return "", "The API key is malformed. It must be 43 characters of A-Z, a-z, 0-9, - and _."
	}
	return key, ""
}

// groupName returns the group of a request, or "" if there is none. problem describes what is wrong
// with it.
func groupName(header http.Header) (group, problem string) {
	groups := header.Values(wire.GroupHeader)
	switch {
	case len(groups) > 1:
		return "", "X-Group must be sent only once."
	case len(groups) == 0 || groups[0] == "":
		return "", ""
	case !credentials.ValidGroup(groups[0]):
		return "", `X-Group is malformed. It must be "groups/" and a ULID, 26 characters of 0-9 and A-Z without I, L, O and U.`
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
