package middleware

import (
	"context"
	"net/http"
	"net/netip"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
)

// ClientIP finds the address of the client for [ClientIPOf].
//
// It is the TCP peer. Only where the peer is one of the trusted proxies is
// X-Forwarded-For read, from the right, past further trusted ones: the first
// other address is the client. Where that leads nowhere (no such header, an
// entry that is no address, trusted proxies all the way) it is the peer again.
func ClientIP(trusted []netip.Prefix) func(http.Handler) http.Handler {
	if len(trusted) == 0 {
		return chimiddleware.ClientIPFromRemoteAddr
	}
	prefixes := make([]string, len(trusted))
	for i, prefix := range trusted {
		prefixes[i] = unmapPrefix(prefix).String()
	}
	forwarded := chimiddleware.ClientIPFromXFF(prefixes...)
	return func(next http.Handler) http.Handler {
		peer := chimiddleware.ClientIPFromRemoteAddr(next)
		return forwarded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if chimiddleware.GetClientIPAddr(r.Context()).IsValid() {
				next.ServeHTTP(w, r)
				return
			}
			peer.ServeHTTP(w, r)
		}))
	}
}

// ClientIPOf is the address that [ClientIP] found: without a zone, IPv4 where
// it was an IPv4 address in IPv6 form (RFC 4291, section 2.5.5.2). It is not
// valid behind a listener without addresses, such as a Unix socket.
func ClientIPOf(ctx context.Context) netip.Addr {
	return chimiddleware.GetClientIPAddr(ctx).WithZone("")
}

// unmapPrefix turns ::ffff:10.0.0.0/104 into 10.0.0.0/8: addresses are
// compared in their IPv4 form, which no such prefix holds.
func unmapPrefix(prefix netip.Prefix) netip.Prefix {
	const mappedBits = 96
	if prefix.Addr().Is4In6() && prefix.Bits() >= mappedBits {
		return netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits)
	}
	return prefix
}
