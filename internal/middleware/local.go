package middleware

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Local adds the developer's credentials to requests. Since any page in the developer's browser can
// reach a port of this computer, it also rejects requests that the developer did not make, as
// [OwnRequests] does.
//
// A request without credentials gets the key and the group. A request with only a group gets the
// key. A request with a key or any Authorization is not changed, so that credentials of two users
// are never mixed.
func Local(creds credentials.Credentials, hosts ...string) func(http.Handler) http.Handler {
	own := OwnRequests(
		"This gateway adds the API key of its user (--credentials), so it only accepts requests for localhost and loopback addresses. Nothing was sent to the Mesh API.",
		"This gateway adds the API key of its user (--credentials), so it rejects browser requests from pages of other origins. Nothing was sent to the Mesh API.",
		hosts...)
	return func(next http.Handler) http.Handler {
		return own(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(r.Header.Values(wire.APIKeyHeader)) == 0 && len(r.Header.Values(wire.AuthorizationHeader)) == 0 {
				r.Header.Set(wire.APIKeyHeader, creds.APIKey)
				if len(r.Header.Values(wire.GroupHeader)) == 0 {
					r.Header.Set(wire.GroupHeader, creds.Group)
				}
			}
			next.ServeHTTP(w, r)
		}))
	}
}

// OwnRequests rejects requests that a page in a browser makes without the knowledge of the user of
// this computer.
//
// It rejects requests with a Host other than localhost, 127.0.0.0/8, [::1] and the given hosts
// (names without a port, such as that of a container) with 421 and the message misdirected. This
// prevents DNS rebinding. It rejects requests that a browser makes for a page of another origin with
// 403 and the message crossOrigin. That includes GET, which [http.CrossOriginProtection] allows as
// safe: with a key it could read data or hold a stream open.
func OwnRequests(misdirected, crossOrigin string, hosts ...string) func(http.Handler) http.Handler {
	own := make([]string, len(hosts))
	for i, host := range hosts {
		own[i] = strings.ToLower(host)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if host := hostname(r.Host); !isLocal(host) && !slices.Contains(own, host) {
				apierror.Write(w, apierror.New(codes.PermissionDenied, apierror.MisdirectedRequest, misdirected).
					WithHTTPStatus(http.StatusMisdirectedRequest))
				return
			}
			if crossSite(r) {
				apierror.Write(w, apierror.New(codes.PermissionDenied, apierror.CrossSite, crossOrigin))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// hostname returns the host of a Host header in lower case, without the port and the brackets of
// IPv6. It returns "" if the header is malformed.
func hostname(hostport string) string {
	host, port, err := net.SplitHostPort(hostport)
	switch {
	case err == nil && strings.Trim(port, "0123456789") != "":
		return ""
	case err != nil && strings.HasPrefix(hostport, "[") && strings.HasSuffix(hostport, "]"):
		host = hostport[1 : len(hostport)-1]
	case err != nil && strings.Contains(hostport, ":"):
		return ""
	case err != nil:
		host = hostport
	}
	return strings.ToLower(host)
}

// isLocal reports whether the host is this computer. It excludes *.localhost, since not every
// resolver resolves those names to loopback addresses as RFC 6761 demands.
func isLocal(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.Is4() && ip.IsLoopback() || ip == netip.IPv6Loopback())
}

// crossSite reports whether a browser sent the request for a page of another origin. Clients other
// than browsers send neither Sec-Fetch-Site nor Origin.
func crossSite(r *http.Request) bool {
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		// "none" is a request by the user, such as from the address bar or a bookmark.
		if site != "same-origin" && site != "none" {
			return true
		}
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	for _, origin := range r.Header.Values("Origin") {
		if !strings.EqualFold(origin, scheme+"://"+r.Host) {
			return true
		}
	}
	return false
}
