package idempotency

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// maxKeyLength is the maximum length of a key, in characters.
const maxKeyLength = 255

// KeyOf returns the Idempotency-Key of a call to a method, or "" if the call is made without one.
// values are the values of the header. authenticated reports whether the call has an API key, and
// required whether the gateway requires an Idempotency-Key.
//
// Methods that read ignore the header. A public method can be called without an API key. Then
// there is nobody to whom a key could belong, so it is an error to send one and none is required.
//
// The error is an [apierror.Error] with status 400.
func KeyOf(method *contract.Method, values []string, authenticated, required bool) (string, error) {
	switch {
	case !method.Write || method.Streams():
		return "", nil
	case len(values) == 0 && (!required || !authenticated):
		return "", nil
	case len(values) == 0:
		return "", invalid("is required for requests that write: send a new key, such as a UUID, with each new request, and the same key with a repeated request")
	case !authenticated:
		return "", invalid("cannot be used without an API key")
	case len(values) > 1:
		return "", invalid("must be sent only once")
	}
	return parseKey(values[0])
}

// parseKey returns the key in the value of the header. The draft specifies a string of Structured
// Fields (RFC 9651, section 3.3.3), which is in quotes. Most clients omit the quotes, so a bare key
// is accepted too. "abc" and abc are the same key.
func parseKey(value string) (string, error) {
	value = strings.Trim(value, " \t")
	key := value
	if quoted, ok := strings.CutPrefix(value, `"`); ok {
		var ended bool
		if key, ended = unquote(quoted); !ended {
			return "", invalid("must be one string in quotes, or a key without quotes")
		}
	} else if strings.ContainsAny(key, `"\`) {
		return "", invalid(`must be in quotes if it contains " or \, each preceded by \`)
	}
	switch {
	case key == "":
		return "", invalid("is empty")
	case len(key) > maxKeyLength:
		return "", invalid(fmt.Sprintf("has %d characters; the maximum is %d", len(key), maxKeyLength))
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", invalid("must consist of visible ASCII characters, without spaces")
	}
	return key, nil
}

// unquote returns the string before the quote that ends s. It reports false if the quote is
// missing, if something follows it, or if a backslash escapes another character than a quote or a
// backslash.
func unquote(s string) (string, bool) {
	var key strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return key.String(), i == len(s)-1
		case '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
		}
		key.WriteByte(s[i])
	}
	return "", false
}

func invalid(problem string) error {
	return apierror.New(codes.InvalidArgument, apierror.InvalidRequest,
		wire.IdempotencyKeyHeader+" "+problem+". Nothing was sent to the Mesh API.")
}
