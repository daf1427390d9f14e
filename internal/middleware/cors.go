package middleware

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/cors"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// corsMaxAge is how long a browser may cache the response to a preflight request, in seconds. It is
// the maximum of Chromium.
const corsMaxAge = 7200

// CORS allows pages of the origins to call the gateway from a browser (Fetch standard, CORS
// protocol). The origins are compared exactly and must be in the form that [ParseOrigin] returns.
// Without origins, CORS does nothing, and browsers block pages of all other origins.
func CORS(origins []string) func(http.Handler) http.Handler {
	// rs/cors allows every origin if the list is empty.
	if len(origins) == 0 {
		return func(next http.Handler) http.Handler { return next }
	}
	allowed := slices.Clone(origins)
	return cors.New(cors.Options{
		// A function instead of the list, because rs/cors gives "*" in a list a meaning.
		AllowOriginFunc: func(origin string) bool { return slices.Contains(allowed, origin) },
		AllowedMethods: []string{
			http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodHead,
		},
		AllowedHeaders: []string{
			wire.APIKeyHeader, wire.GroupHeader, wire.AuthorizationHeader, "Content-Type", wire.RequestTimeoutHeader,
			wire.RequestIDHeader, wire.IdempotencyKeyHeader, wire.LastEventIDHeader, wire.TraceparentHeader,
			wire.SandboxFaultHeader,
		},
		ExposedHeaders: []string{
			wire.RequestIDHeader, wire.RateLimitHeader, wire.RateLimitPolicyHeader, wire.RetryAfterHeader,
			wire.EnvironmentHeader, wire.ReplayedHeader, "Allow", wire.AuthenticateHeader, wire.ContentDispositionHeader,
		},
		MaxAge: corsMaxAge,
		// The page sends keys in headers. There are no cookies.
		AllowCredentials: false,
	}).Handler
}

// ParseOrigin parses an origin, scheme://host[:port], and returns it in the form that browsers send
// (RFC 6454, section 6.2): in lower case and without the default port of the scheme. The error
// says what is wrong and never contains a password.
func ParseOrigin(text string) (string, error) {
	wrong := func(problem string) (string, error) {
		return "", fmt.Errorf("the origin %q %s; write scheme://host or scheme://host:port, such as https://app.example.com", text, problem)
	}
	switch {
	case text == "":
		return wrong("is empty")
	case strings.Contains(text, "*"):
		return wrong("contains a wildcard, which is not supported; list each origin")
	case strings.Contains(text, "@"):
		// Checked before url.Parse, and without the text, which may contain a password.
		return "", errors.New("an origin must not contain a user name or a password; write scheme://host or scheme://host:port, such as https://app.example.com")
	case strings.ContainsAny(text, "?#"):
		return wrong("contains a query or a fragment")
	}
	u, err := url.Parse(text)
	if err != nil {
		return wrong("is not a URL")
	}
	defaultPort := "443"
	switch u.Scheme {
	case "https":
	case "http":
		defaultPort = "80"
	default:
		return wrong("must begin with http:// or https://")
	}
	switch {
	case u.Path == "/":
		return wrong("ends in a slash")
	case u.Path != "":
		return wrong("contains a path")
	case u.Opaque != "" || u.Hostname() == "":
		return wrong("has no host")
	}

	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		ip, err := netip.ParseAddr(host)
		if err != nil || ip.Zone() != "" {
			return wrong("has a host that is not an IPv6 address")
		}
		host = ip.String()
	} else if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" {
		return wrong("has a character in its host that browsers do not send (they send international names as xn--…)")
	}
	port := u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return wrong("ends in a colon")
		}
		port = defaultPort
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return wrong("needs a port from 1 to 65535")
	}
	port = strconv.FormatUint(number, 10)

	if port != defaultPort {
		return u.Scheme + "://" + net.JoinHostPort(host, port), nil
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return u.Scheme + "://" + host, nil
}
