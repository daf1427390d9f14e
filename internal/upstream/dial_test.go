package upstream

import (
	"crypto/tls"
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/meshtrade/mesh-gateway/internal/contract"
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
	conn, err := Dial("127.0.0.1:1", Options{Plaintext: true, TLS: &tls.Config{}})
	if err == nil {
		_ = conn.Close()
		t.Fatal("Dial accepted TLS and Plaintext together")
	}
}

func TestOnlyReadsAreRetried(t *testing.T) {
	methods := contract.Methods()
	text, err := retryReads(methods)
	if err != nil {
		t.Fatal(err)
	}
	var config serviceConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	retried := map[string]bool{}
	for _, entry := range config.MethodConfig {
		for _, name := range entry.Name {
			// An empty name matches every method.
			if name.Service == "" || name.Method == "" {
				t.Fatalf("an entry matches more than one method: %+v", name)
			}
			retried["/"+name.Service+"/"+name.Method] = true
		}
	}
	writes := 0
	for _, method := range methods {
		if method.Write {
			writes++
		}
		if retried[method.Name()] == method.Write {
			t.Errorf("%s: write %t, retried %t", method.Name(), method.Write, retried[method.Name()])
		}
	}
	if writes == 0 || len(retried) == 0 {
		t.Fatalf("%d writes, %d retried methods: the contract was not read", writes, len(retried))
	}

	if text, err := retryReads(nil); err != nil || text != "{}" {
		t.Errorf("without methods: %q, %v", text, err)
	}
}
