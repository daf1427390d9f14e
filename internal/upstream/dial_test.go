package upstream

import (
	"crypto/tls"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseTarget(t *testing.T) {
	for _, test := range []struct{ name, target, want, wantErr string }{
		{"default", DefaultTarget, DefaultTarget, ""},
		{"IPv4", "127.0.0.1:1", "127.0.0.1:1", ""},
		{"IPv6", "[::1]:65535", "[::1]:65535", ""},
		{"a host with the name of a scheme", "unix:443", "unix:443", ""},
		{"empty", "", "", "is empty"},
		{"URL", "https://mesh.trade:443", "", "has a scheme or a path"},
		{"path", "mesh.trade:443/v1", "", "has a scheme or a path"},
		{"resolver scheme", "dns:///mesh.trade:443", "", "has a scheme or a path"},
		{"no port", "mesh.trade", "", "missing port"},
		{"empty port", "mesh.trade:", "", "needs a port"},
		{"port 0", "mesh.trade:0", "", "needs a port"},
		{"port 65536", "mesh.trade:65536", "", "needs a port"},
		{"named port", "mesh.trade:https", "", "needs a port"},
		{"no host", ":443", "", "has no host"},
		{"IPv6 without brackets", "::1:443", "", "too many colons"},
		{"IPv6 zone", "[fe80::1%eth0]:443", "", "not an IPv6 address"},
		{"space", "mesh trade:443", "", "not allowed in host names"},
		{"user", "me@mesh.trade:443", "", "not allowed in host names"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseTarget(test.target)
			if test.wantErr == "" && err != nil || test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
				t.Fatalf("error %v, want %q", err, test.wantErr)
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestDialRejectsTLSWithPlaintext(t *testing.T) {
	conn, err := Dial("127.0.0.1:1", Options{Plaintext: true, TLS: func() *tls.Config { return new(tls.Config) }})
	if err == nil {
		_ = conn.Close()
		t.Fatal("Dial accepted TLS and Plaintext together")
	}
}
