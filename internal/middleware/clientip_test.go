package middleware

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestClientIP(t *testing.T) {
	ten := netip.MustParsePrefix("10.0.0.0/8")
	for _, test := range []struct {
		name    string
		trusted []netip.Prefix
		peer    string
		xff     []string
		want    string
	}{
		{"no proxies: the peer", nil, "192.0.2.1:99", nil, "192.0.2.1"},
		{"no proxies: the header is ignored", nil, "10.0.0.1:99", []string{"203.0.113.9"}, "10.0.0.1"},
		{"no proxies: zone dropped", nil, "[fe80::1%eth0]:99", nil, "fe80::1"},
		{"no proxies: IPv4 in IPv6 form", nil, "[::ffff:192.0.2.1]:99", nil, "192.0.2.1"},
		{"no proxies: no address", nil, "@", nil, ""},
		{"untrusted peer: the header is ignored", []netip.Prefix{ten}, "11.0.0.0:99", []string{"203.0.113.9"}, "11.0.0.0"},
		{"last trusted address", []netip.Prefix{ten}, "10.255.255.255:99", []string{"203.0.113.9"}, "203.0.113.9"},
		{"trusted peer in IPv6 form", []netip.Prefix{ten}, "[::ffff:10.0.0.1]:99", []string{"203.0.113.9"}, "203.0.113.9"},
		{"prefix in IPv6 form", []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}, "10.0.0.1:99", []string{"203.0.113.9"}, "203.0.113.9"},
		{"forged entries to the left", []netip.Prefix{ten}, "10.0.0.1:99", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"},
		{"trusted entries are skipped", []netip.Prefix{ten}, "10.0.0.1:99", []string{"1.1.1.1, 203.0.113.9, 10.0.0.3, 10.0.0.2"}, "203.0.113.9"},
		{"several headers", []netip.Prefix{ten}, "10.0.0.1:99", []string{"203.0.113.9", "10.0.0.2"}, "203.0.113.9"},
		{"entry with a zone", []netip.Prefix{ten}, "10.0.0.1:99", []string{"2001:db8::1%x"}, "2001:db8::1"},
		{"trusted peer without the header", []netip.Prefix{ten}, "10.0.0.1:99", nil, "10.0.0.1"},
		{"only trusted entries", []netip.Prefix{ten}, "10.0.0.1:99", []string{"10.0.0.2"}, "10.0.0.1"},
		{"an entry that is not an address", []netip.Prefix{ten}, "10.0.0.1:99", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = test.peer
			for _, value := range test.xff {
				r.Header.Add("X-Forwarded-For", value)
			}
			next := new(capture)
			ClientIP(test.trusted)(next).ServeHTTP(httptest.NewRecorder(), r)
			want, _ := netip.ParseAddr(test.want)
			if got := ClientIPOf(next.request); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}
