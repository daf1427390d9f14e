package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// TestFailedAuthenticationsAreLimited guesses keys, tickets and routes until the address is blocked.
func TestFailedAuthenticationsAreLimited(t *testing.T) {
	const budget = 5
	for _, test := range []struct {
		name, path string
		key        string
		sent       bool // to Mesh
		want       int
	}{
		{"keys that Mesh does not know", anyGroup, "k", true, http.StatusUnauthorized},
		{"malformed keys", anyGroup, "?", false, http.StatusUnauthorized},
		{"tickets", "/v1/limit_orders/01HZXJ5K8MNPQRSTVWXYZ01234:monitor?ticket=GUESS", "", false, http.StatusUnauthorized},
		{"routes", "/v1/secrets", "k", false, http.StatusNotFound},
		{"other routes", "/wp-login.php", "k", false, http.StatusNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := meshtest.NewUpstream(t)
			p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--trusted-proxy", "127.0.0.1",
				"--rate-limit-failures", fmt.Sprintf("%d/24h", budget), "--rate-limit-read", "0")
			known := behindProxy("g", "192.0.2.1")
			if a := p.call(t, http.MethodGet, anyGroup, known, ""); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			upstream.Fail(status.New(codes.Unauthenticated, "The API key is unknown."))
			upstream.Calls() // forgets them
			guess := func(n int) answer {
				letter := test.key
				if letter == "k" {
					letter = string(rune('a' + n%6)) // another key each time
				}
				return p.call(t, http.MethodGet, test.path, behindProxy(letter, "192.0.2.1"), "")
			}
			for n := range budget {
				if a := guess(n); a.status != test.want {
					t.Fatalf("attempt %d: %d %s", n, a.status, a.body)
				}
			}
			for n := range 20 {
				if a := guess(n); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
					t.Fatalf("attempt %d: %d %s", budget+n, a.status, a.body)
				}
			}
			want := 0
			if test.sent {
				want = budget
			}
			if sent := len(upstream.Calls()); sent != want {
				t.Errorf("%d calls were sent to Mesh, want %d", sent, want)
			}
			upstream.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
				return []proto.Message{dynamicpb.NewMessage(method.Output())}, nil
			})
			for _, other := range []struct {
				name, path string
				header     http.Header
				want       int
			}{
				{"a key that Mesh has accepted", anyGroup, known, http.StatusOK},
				{"another key at the address", anyGroup, behindProxy("h", "192.0.2.1"), http.StatusTooManyRequests},
				{"another address", anyGroup, behindProxy("h", "192.0.2.2"), http.StatusOK},
				{"a health check", "/healthz", behindProxy("h", "192.0.2.1"), http.StatusOK},
			} {
				if a := p.call(t, http.MethodGet, other.path, other.header, ""); a.status != other.want {
					t.Errorf("%s: %d %s, want %d", other.name, a.status, a.body, other.want)
				}
			}
		})
	}
}

// TestTicketsOfInventedKeys asks for more tickets than a store keeps, with keys that Mesh does not
// know, and then for one with a key that it knows.
func TestTicketsOfInventedKeys(t *testing.T) {
	p := start(t, "--sandbox", "--rate-limit-read", "0", "--rate-limit-failures", "0", "--trusted-proxy", "127.0.0.1")
	const body = `{"path": "/v1/limit_orders/00000000000000000000000001:monitor"}`
	broker := as(credential(t, "Broker Admin"))
	for n := range 10_100 {
		header := broker.Clone()
		header.Set("X-Api-Key", fmt.Sprintf("%043d", n))
		header.Set("X-Forwarded-For", fmt.Sprintf("192.0.%d.%d", n/250, n%250))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/stream_tickets", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = header
		// Not with the client that compares each of so many answers with the document.
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != http.StatusUnauthorized {
			t.Fatalf("key %d: %d, %v", n, response.StatusCode, err)
		}
	}
	if a := p.call(t, http.MethodPost, "/stream_tickets", broker, body); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestTicketsAreLimited asks for tickets until the limits of the key and of the address are reached.
func TestTicketsAreLimited(t *testing.T) {
	const perKey, perAddress = 100, 400
	upstream := meshtest.NewUpstream(t)
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--trusted-proxy", "127.0.0.1", "--rate-limit-read", "0")
	ask := func(letter, address string) answer {
		return p.call(t, http.MethodPost, "/stream_tickets", behindProxy(letter, address), `{"path": "/v1/limit_orders:monitor", "query": "externalReference=a"}`)
	}
	until429 := func(letter, address string) (issued int) {
		for ; issued <= 2*perAddress; issued++ {
			switch a := ask(letter, address); a.status {
			case http.StatusOK:
			case http.StatusTooManyRequests:
				if a.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				return issued
			default:
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
		return issued
	}
	// The limits grow by a ticket in 300 ms while the test runs.
	began, total := time.Now(), 0
	for letter := range strings.SplitSeq("abcde", "") {
		issued := until429(letter, "192.0.2.1")
		total += issued
		if most := perKey + int(time.Since(began)/(300*time.Millisecond)) + 1; issued > most || letter == "a" && issued < perKey {
			t.Errorf("key %s got %d tickets, want up to %d", letter, issued, most)
		}
	}
	// A request that is refused for its key has spent the limit of the address.
	if most := perAddress + int(time.Since(began)/(75*time.Millisecond)) + 1; total < perAddress-len("abcde") || total > most {
		t.Errorf("the address got %d tickets, want up to %d", total, most)
	}
	if a := ask("f", "192.0.2.2"); a.status != http.StatusOK {
		t.Errorf("another key at another address: %d %s", a.status, a.body)
	}
	// A key is vouched for once, and then known for a while.
	asked := make(map[string]bool)
	for _, call := range upstream.Calls() {
		key := call.Metadata.Get("x-api-key")[0]
		if !strings.HasSuffix(call.Method, "/GetGroup") || asked[key] {
			t.Errorf("%s was called with a key that is known", call.Method)
		}
		asked[key] = true
	}
	if !asked[strings.Repeat("a", 43)] {
		t.Error("Mesh was not asked for a key")
	}
	for _, test := range []struct {
		code codes.Code
		want int
	}{
		{codes.Unavailable, http.StatusServiceUnavailable},
		{codes.DeadlineExceeded, http.StatusServiceUnavailable},
		{codes.Unauthenticated, http.StatusUnauthorized},
		{codes.PermissionDenied, http.StatusOK}, // the key is known, whatever it may do
	} {
		upstream.Fail(status.New(test.code, "from the upstream"))
		if a := ask("g", "192.0.2.2"); a.status != test.want {
			t.Errorf("%s: %d %s, want %d", test.code, a.status, a.body, test.want)
		}
	}
}

// TestConnectionsAreLimited opens connections from several addresses of the loopback network.
func TestConnectionsAreLimited(t *testing.T) {
	p := start(t, "--sandbox", "--admin-listen", "127.0.0.1:0", "--max-connections", "5", "--max-address-connections", "2", "--trusted-proxy", "127.0.0.9")
	dial := func(from string) (conn net.Conn, served bool) {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(p.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, alive(t, conn)
	}
	first, _ := dial("127.0.0.2")
	for _, test := range []struct {
		name, from string
		want       bool
	}{
		{"a second connection", "127.0.0.2", true},
		{"a third connection", "127.0.0.2", false},
		{"a trusted proxy", "127.0.0.9", true},
		{"a trusted proxy, again", "127.0.0.9", true},
		{"a trusted proxy, a third time", "127.0.0.9", true},
		{"another address, beyond the limit of all", "127.0.0.3", false},
	} {
		if _, served := dial(test.from); served != test.want {
			t.Errorf("%s is served: %t", test.name, served)
		}
	}
	metrics := func() string { return string(p.admin(t).call(t, http.MethodGet, "/metrics", nil, "").body) }
	for _, line := range []string{
		"mesh_gateway_connections_open 5", `mesh_gateway_connections_refused_total{limit="address"} 1`, `mesh_gateway_connections_refused_total{limit="all"} 1`,
	} {
		if text := metrics(); !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	p.stderr.Wait(t, "connections are refused")
	_ = first.Close()
	for deadline := time.Now().Add(10 * time.Second); strings.Contains(metrics(), "connections_open 5"); {
		if time.Now().After(deadline) {
			t.Fatal("the closed connection still counts")
		}
	}
	if _, served := dial("127.0.0.2"); !served {
		t.Error("not served after another was closed")
	}
}

// alive reports whether a request on the connection is answered.
func alive(t *testing.T, conn net.Conn) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://gateway/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.Write(conn); err != nil {
		return false
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close()) == nil && response.StatusCode == http.StatusOK
}
