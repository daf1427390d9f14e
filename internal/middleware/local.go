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

// Local adds the developer's own credentials to requests, and guards them: any
// page in the developer's browser can reach a port of this computer.
//
// A Host other than localhost, 127.0.0.0/8, [::1] and the given hosts (names
// without port, for a container's own name) is refused with 421: a page whose
// name was rebound to this computer sends its own name. A request that a
// browser makes for a page of another site or origin is refused with 403, and
// GET too, which [http.CrossOriginProtection] lets pass as safe: here it would
// carry the key and could read, or hold open a stream.
//
// A request without any credentials gets the key and the group. One with a
// group only gets the key. One with a key, or any Authorization, gets nothing:
// what it does not bring must be missing, not somebody else's.
func Local(creds credentials.Credentials, hosts ...string) func(http.Handler) http.Handler {
	own := make([]string, len(hosts))
	for i, host := range hosts {
		own[i] = strings.ToLower(host)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if host := hostname(r.Host); !isLocal(host) && !slices.Contains(own, host) {
				apierror.Write(w, r, apierror.New(codes.PermissionDenied, apierror.MisdirectedRequest,
					"The gateway runs in local mode and answers under localhost, 127.0.0.1 and [::1] only.").
					WithHTTPStatus(http.StatusMisdirectedRequest))
				return
			}
			if crossSite(r) {
				apierror.Write(w, r, apierror.New(codes.PermissionDenied, apierror.CrossSite,
					"The gateway runs in local mode, with its user's own credentials, and refuses requests that a browser makes for another site."))
				return
			}
			if len(r.Header.Values(wire.APIKeyHeader)) == 0 && len(r.Header.Values(wire.AuthorizationHeader)) == 0 {
				r.Header.Set(wire.APIKeyHeader, creds.APIKey)
				if len(r.Header.Values(wire.GroupHeader)) == 0 {
					r.Header.Set(wire.GroupHeader, creds.Group)
				}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// hostname is the host of a Host header in lower case, without its port and
// the brackets of IPv6; empty where the header is malformed.
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

// isLocal leaves out *.localhost: not every resolver keeps those names on this
// computer, RFC 6761 notwithstanding.
func isLocal(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.Is4() && ip.IsLoopback() || ip == netip.IPv6Loopback())
}

// crossSite reports whether a browser sent the request for a page that is not
// the gateway's own. Programs send neither header.
func crossSite(r *http.Request) bool {
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		// "none" is the user's own doing: the address bar, a bookmark.
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
