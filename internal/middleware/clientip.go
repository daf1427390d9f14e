package middleware

import (
	"net/http"
	"net/netip"

	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/meshtrade/mesh-gateway/internal/access"
)

// ClientIP determines the address of the client for [ClientIPOf] if there are trusted proxies.
// Without them it does nothing, and the address is that of the TCP peer.
//
// If the peer is a trusted proxy, the address is the rightmost one in X-Forwarded-For that is not a
// trusted proxy. If the header is missing, has an entry that is not an address, or lists only
// trusted proxies, it is the address of the peer.
func ClientIP(trusted []netip.Prefix) func(http.Handler) http.Handler {
	if len(trusted) == 0 {
		return func(next http.Handler) http.Handler { return next }
	}
	prefixes := make([]string, len(trusted))
	for i, prefix := range trusted {
		prefixes[i] = access.UnmapPrefix(prefix).String()
	}
	return chimiddleware.ClientIPFromXFF(prefixes...)
}

// ClientIPOf returns the address that [ClientIP] determined, or that of the TCP peer, without a
// zone. IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2) are returned as IPv4. The address is
// invalid if the listener has no addresses, such as a Unix socket.
func ClientIPOf(r *http.Request) netip.Addr {
	if forwarded := chimiddleware.GetClientIPAddr(r.Context()); forwarded.IsValid() {
		return forwarded.WithZone("")
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}
