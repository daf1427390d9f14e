package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// aMonth is how long the certificates of the tests are valid.
const aMonth = 30 * 24 * time.Hour

// clientOf returns a client that speaks HTTP/1.1 or HTTP/2 alone, the latter also without TLS.
func clientOf(t *testing.T, http2 bool, config *tls.Config) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: config.Clone()}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// put writes a certificate and its key to a directory, and returns their paths.
func put(t *testing.T, dir string, c *meshtest.Certificate) (certificate, key string) {
	t.Helper()
	certificate, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := errors.Join(os.WriteFile(certificate, c.Certificate, 0o600), os.WriteFile(key, c.Key, 0o600)); err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// putAuthority writes the certificate of an authority to a file and returns its path.
func putAuthority(t *testing.T, c *meshtest.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(path, c.Certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTLS(t *testing.T) {
	authority := meshtest.Issue(t, "authority", aMonth, nil)
	certificate, key := put(t, t.TempDir(), meshtest.Issue(t, "gateway.example", aMonth, authority))
	p := start(t, "--sandbox", "--sandbox-clock", "manual", "--tls-cert", certificate, "--tls-key", key)
	trusting := &tls.Config{RootCAs: authority.Pool()}
	caller := as(credential(t, "Broker Admin"))
	for _, test := range []struct {
		proto string
		http2 bool
	}{{"HTTP/1.1", false}, {"HTTP/2.0", true}} {
		t.Run(test.proto, func(t *testing.T) {
			p := &program{base: p.base, client: clientOf(t, test.http2, trusting)}
			if got := p.call(t, "POST", "/v1/groups", caller, newGroup); got.status != http.StatusOK {
				t.Errorf("a call: %d %s", got.status, got.body)
			}
			// The first message must come while the stream is open.
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+monitorPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header = caller
			response, err := p.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || response.Proto != test.proto {
				t.Errorf("a stream over %s: %q, %v", response.Proto, line, err)
			}
		})
	}
	t.Run("a WebSocket", func(t *testing.T) {
		conn, _, err := websocket.Dial(t.Context(), "wss"+strings.TrimPrefix(p.base, "https")+monitorPath,
			&websocket.DialOptions{HTTPClient: clientOf(t, false, trusting), HTTPHeader: caller.Clone()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.CloseNow() }()
		if _, message, err := conn.Read(t.Context()); err != nil || !strings.Contains(string(message), "LIMIT_ORDER_STATE_OPEN") {
			t.Errorf("%s, %v", message, err)
		}
	})
	t.Run("HTTP without TLS", func(t *testing.T) {
		response, err := http.Get("http://" + p.address() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "HTTPS server") {
			t.Errorf("%d %s", response.StatusCode, body)
		}
	})
	for _, test := range []struct {
		name  string
		flags []string
		code  int
		says  string
	}{
		{"of a loopback address", []string{"--url", p.base + "/healthz"}, 0, "healthy"},
		{"with the authority", []string{"--url", p.base + "/healthz", "--ca", putAuthority(t, authority)}, 0, "healthy"},
		{"with another authority", []string{"--url", p.base + "/healthz", "--ca", putAuthority(t, meshtest.Issue(t, "other", aMonth, nil))}, 1, "certificate signed by unknown authority"},
		{"without TLS", []string{"--url", "http://" + p.address() + "/healthz"}, 1, "pass --url " + p.base + "/healthz"},
	} {
		t.Run("the health check "+test.name, func(t *testing.T) {
			code, stdout, stderr := command(t, append([]string{"healthcheck"}, test.flags...)...)
			if code != test.code || !strings.Contains(stdout+stderr, test.says) {
				t.Errorf("exit status %d: %s%s, want %d and %q", code, stdout, stderr, test.code, test.says)
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	authority, clients := meshtest.Issue(t, "authority", aMonth, nil), meshtest.Issue(t, "clients", aMonth, nil)
	certificate, key := put(t, t.TempDir(), meshtest.Issue(t, "gateway.example", aMonth, authority))
	p := start(t, "--sandbox", "--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", putAuthority(t, clients))
	for _, test := range []struct {
		name   string
		issuer *meshtest.Certificate
		want   bool
	}{{"of the authority", clients, true}, {"of another authority", authority, false}, {"none", nil, false}} {
		t.Run(test.name, func(t *testing.T) {
			config := &tls.Config{RootCAs: authority.Pool()}
			if test.issuer != nil {
				own := meshtest.Issue(t, "client", aMonth, test.issuer).TLS()
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
			}
			response, err := clientOf(t, true, config).Get(p.base + "/healthz")
			if err == nil {
				response.Body.Close()
			}
			if (err == nil) != test.want {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestSelfSigned trusts what the program prints.
func TestSelfSigned(t *testing.T) {
	p := start(t, "--sandbox", "--tls-self-signed")
	fingerprint := strings.Fields(p.stdout.Wait(t, "SHA-256"))[1]
	p.stdout.Wait(t, "curl -k "+p.base)
	shown := ""
	p.client = clientOf(t, true, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
		shown = strings.ReplaceAll(strings.ToLower(fingerprint), ":", "")
		if got := fmt.Sprintf("%x", sha256.Sum256(state.PeerCertificates[0].Raw)); got != shown {
			return fmt.Errorf("the certificate is %s", got)
		}
		return nil
	}})
	if got := p.call(t, "GET", "/healthz", nil, ""); got.status != http.StatusOK || shown == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestUpstreamTLS calls an upstream that has a certificate of its own authority, for another name, and
// that wants one of the gateway.
func TestUpstreamTLS(t *testing.T) {
	authority := meshtest.Issue(t, "authority", aMonth, nil)
	serving := meshtest.Issue(t, "mesh.example", aMonth, authority)
	upstream := meshtest.NewUpstream(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{serving.TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool(),
	})))
	certificate, key := put(t, t.TempDir(), meshtest.Issue(t, "gateway", aMonth, authority))
	ca, other := putAuthority(t, authority), putAuthority(t, meshtest.Issue(t, "other", aMonth, nil))
	own := []string{"--upstream-cert", certificate, "--upstream-key", key}
	for _, test := range []struct {
		name  string
		flags []string
		want  int
		cause string // in the access log
	}{
		{"all as it should be", append([]string{"--upstream-ca", ca, "--upstream-server-name", "mesh.example"}, own...), http.StatusOK, ""},
		{"the name of the address", append([]string{"--upstream-ca", ca}, own...), http.StatusOK, ""},
		{"another name", append([]string{"--upstream-ca", ca, "--upstream-server-name", "elsewhere.example"}, own...), http.StatusServiceUnavailable, "not elsewhere.example"},
		{"another authority", append([]string{"--upstream-ca", other}, own...), http.StatusServiceUnavailable, "certificate signed by unknown authority"},
		{"the authorities of the system", own, http.StatusServiceUnavailable, "certificate signed by unknown authority"},
		// With TLS 1.3 the upstream refuses this after the handshake. Whether the gateway reads the
		// reason depends on the order of events.
		{"no certificate", []string{"--upstream-ca", ca}, http.StatusServiceUnavailable, "rpc error: code = Unavailable desc = "},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, append([]string{"--upstream", upstream.Target}, test.flags...)...)
			got := p.call(t, "POST", "/v1/groups", caller(0), newGroup)
			if got.status != test.want {
				t.Errorf("%d %s, want %d", got.status, got.body, test.want)
			}
			if test.cause != "" {
				if record := p.stderr.Wait(t, `"status":503`); !strings.Contains(record, test.cause) {
					t.Errorf("the access log does not say %q: %s", test.cause, record)
				}
			}
		})
	}
	t.Run("a certificate that is replaced", func(t *testing.T) {
		// The gateway begins with one that the upstream does not accept.
		dir := t.TempDir()
		certificate, key := put(t, dir, meshtest.Issue(t, "gateway", aMonth, nil))
		p := start(t, "--upstream", upstream.Target, "--upstream-ca", ca, "--upstream-cert", certificate, "--upstream-key", key)
		if got := p.call(t, "POST", "/v1/groups", caller(0), newGroup); got.status != http.StatusServiceUnavailable {
			t.Fatalf("before: %d %s", got.status, got.body)
		}
		put(t, dir, meshtest.Issue(t, "gateway", aMonth, authority))
		deadline := time.Now().Add(time.Minute)
		for {
			got := p.call(t, "POST", "/v1/groups", caller(0), newGroup)
			if got.status == http.StatusOK {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("after: %d %s", got.status, got.body)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// TestRotationUnderLoad replaces the certificate while clients make new connections and use those that
// they have. No call may fail.
func TestRotationUnderLoad(t *testing.T) {
	authority := meshtest.Issue(t, "authority", aMonth, nil)
	issue := func(name string) *meshtest.Certificate { return meshtest.Issue(t, name, aMonth, authority) }
	// As in a volume of Kubernetes: the path leads through a link that is replaced.
	volume, first := t.TempDir(), t.TempDir()
	put(t, first, issue("first"))
	data := filepath.Join(volume, "..data")
	if err := os.Symlink(first, data); err != nil {
		t.Fatal(err)
	}
	replaceLink := func(name string) {
		dir := t.TempDir()
		put(t, dir, issue(name))
		if err := errors.Join(os.Symlink(dir, data+"_tmp"), os.Rename(data+"_tmp", data)); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, "--sandbox", "--rate-limit-read", "0", "--admin-listen", "127.0.0.1:0",
		"--tls-cert", filepath.Join(data, "tls.crt"), "--tls-key", filepath.Join(data, "tls.key"))
	admin := p.admin(t)
	trusting := &tls.Config{RootCAs: authority.Pool()}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var calls, failures atomic.Int64
	var running sync.WaitGroup
	for _, kind := range []struct{ http2, fresh bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		running.Go(func() {
			client := clientOf(t, kind.http2, trusting)
			client.Transport.(*http.Transport).DisableKeepAlives = kind.fresh
			for ctx.Err() == nil {
				err := p.list(ctx, client)
				if err != nil && ctx.Err() == nil {
					failures.Add(1)
					t.Errorf("HTTP/2 %t, a connection of its own %t: %v", kind.http2, kind.fresh, err)
				}
				calls.Add(1)
			}
		})
	}

	for _, step := range []struct {
		name   string
		change func()
		want   string // the certificate that is served then
	}{
		{"the link is replaced", func() { replaceLink("second") }, "second"},
		{"the link is replaced again", func() { replaceLink("third") }, "third"},
		{"the files are overwritten", func() { put(t, data, issue("fourth")) }, "fourth"},
		{"the key is of another certificate", func() {
			if err := os.WriteFile(filepath.Join(data, "tls.key"), issue("broken").Key, 0o600); err != nil {
				t.Fatal(err)
			}
			p.stderr.Wait(t, "--tls-key "+filepath.Join(data, "tls.key")+" does not belong to the certificate in --tls-cert")
			admin.waitForMetric(t, `mesh_gateway_tls_last_reload_successful{side="clients"} 0`)
		}, "fourth"},
		{"a good pair again", func() { replaceLink("fifth") }, "fifth"},
	} {
		before := calls.Load()
		step.change()
		changed := time.Now()
		for name := ""; name != step.want; name = p.servedName(t, trusting) {
			if time.Since(changed) > time.Minute {
				t.Fatalf("%s: the certificate is still %s", step.name, name)
			}
		}
		t.Logf("%s: served after %s", step.name, time.Since(changed).Round(time.Millisecond))
		for calls.Load() < before+40 { // all clients have noticed
			time.Sleep(time.Millisecond)
		}
	}
	admin.waitForMetric(t, `mesh_gateway_tls_last_reload_successful{side="clients"} 1`)
	stop()
	running.Wait()
	t.Logf("%d calls, %d failed", calls.Load(), failures.Load())
}

// list makes a call that must succeed.
func (p *program) list(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/v1/groups", nil)
	if err != nil {
		return err
	}
	request.Header = http.Header{"X-Api-Key": {"sandbox-broker-admin-key-000000000000000000"}, "X-Group": {"groups/00000000000000000000BR0KER"}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %v", response.Status, body, err) //nolint:errorlint // err may be nil
	}
	return nil
}

// servedName returns the name of the certificate that a new connection is shown.
func (p *program) servedName(t *testing.T, config *tls.Config) string {
	t.Helper()
	conn, err := tls.Dial("tcp", p.address(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// waitForMetric waits for a line of /metrics.
func (p *program) waitForMetric(t *testing.T, line string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		metrics := string(p.call(t, "GET", "/metrics", nil, "").body)
		if strings.Contains(metrics, "\n"+line+"\n") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no line %s in\n%s", line, metrics)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestDrainUnderHTTP2Load ends the program while clients make writes over HTTP/2. While the program
// still accepts connections, it tells clients to make new ones. No write may fail for that, and none
// may be made twice. Once the listener is closed, clients cannot connect.
func TestDrainUnderHTTP2Load(t *testing.T) {
	const clients = 8
	for _, test := range []struct{ name, flag string }{{"TLS", "--tls-self-signed"}, {"h2c", "--h2c"}} {
		t.Run(test.name, func(t *testing.T) {
			upstream := meshtest.NewUpstream(t)
			p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--rate-limit-write", "0", "--drain-delay", "1s", test.flag)
			var made atomic.Int64
			enough := make(chan struct{})
			var running sync.WaitGroup
			for range clients {
				running.Go(func() {
					p := &program{base: p.base, client: clientOf(t, true, &tls.Config{InsecureSkipVerify: true})}
					for {
						err := p.createGroup(t, caller(0))
						// A connection that the program has not accepted when it closes the listener is
						// reset by the kernel.
						if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) && p.refuses() {
							return
						}
						if err != nil {
							t.Error(err)
							return
						}
						if made.Add(1) == 20*clients {
							close(enough)
						}
					}
				})
			}
			receive(t, enough, "some writes")
			before := made.Load()
			p.signal(t, syscall.SIGTERM)
			running.Wait()
			if code := p.end(); code != 0 {
				t.Errorf("exit status %d\n%s", code, p.stderr)
			}
			calls := len(upstream.Calls())
			t.Logf("%d writes, %d of them after the signal", made.Load(), made.Load()-before)
			if int64(calls) != made.Load() || made.Load() == before {
				t.Errorf("%d calls reached the upstream, and %d writes were answered, %d before the signal", calls, made.Load(), before)
			}
		})
	}
}

// refuses reports whether new connections are refused.
func (p *program) refuses() bool {
	conn, err := net.Dial("tcp", p.address())
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}
