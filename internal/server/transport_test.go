package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/meshtrade/mesh-gateway/internal/certificates"
	"github.com/meshtrade/mesh-gateway/internal/server"
)

// runTransport runs a server with the handler and the transport until the test ends. It returns its
// address and what stops it.
func runTransport(t *testing.T, transport server.Transport, handler http.HandlerFunc) (address string, stop func() error) {
	t.Helper()
	s := server.New(slog.New(slog.DiscardHandler), 0)
	s.SetTimeout(longTimeout)
	s.SetWriteTimeout(200 * time.Millisecond)
	s.SetTransport(transport)
	listening, err := s.Listen("127.0.0.1:0", handler)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx); close(ended) }()
	stop = func() error { cancel(); return <-ended }
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return listening.String(), stop
}

// selfSigned returns the two sides of TLS.
func selfSigned(t *testing.T) (forServer, forClient *tls.Config) {
	t.Helper()
	source, err := certificates.SelfSigned(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(source.Certificate())
	return source.ServerConfig(), &tls.Config{RootCAs: pool}
}

// clientWith returns a client that speaks HTTP/1.1 or HTTP/2 alone.
func clientWith(t *testing.T, http2 bool, config *tls.Config) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: config.Clone()}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: longTimeout}
}

func TestTransports(t *testing.T) {
	forServer, forClient := selfSigned(t)
	for _, transport := range []struct {
		name string
		server.Transport
		scheme string
		http2  bool // whether HTTP/2 is served
	}{
		{"plain HTTP", server.Transport{}, "http", false},
		{"h2c", server.Transport{H2C: true}, "http", true},
		{"TLS", server.Transport{TLS: forServer}, "https", true},
	} {
		t.Run(transport.name, func(t *testing.T) {
			address, _ := runTransport(t, transport.Transport, func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.Proto, " ", r.TLS != nil)
			})
			for _, client := range []struct {
				http2 bool
				proto string
			}{{false, "HTTP/1.1"}, {true, "HTTP/2.0"}} {
				response, err := clientWith(t, client.http2, forClient).Get(transport.scheme + "://" + address)
				if client.http2 && !transport.http2 {
					if err == nil {
						response.Body.Close()
						t.Errorf("%s is served", client.proto)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", client.proto, err)
					continue
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				if want := fmt.Sprint(client.proto, " ", transport.TLS != nil); err != nil || string(body) != want {
					t.Errorf("the handler saw %q, %v, want %q", body, err, want)
				}
			}
		})
	}
	t.Run("HTTP without TLS to a listener with TLS", func(t *testing.T) {
		address, _ := runTransport(t, server.Transport{TLS: forServer}, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
		response, err := http.Get("http://" + address)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusBadRequest || string(body) != "Client sent an HTTP request to an HTTPS server.\n" {
			t.Errorf("%s %q, %v", response.Status, body, err)
		}
	})
}

// TestHTTP2StreamsThatAreNotRead has a client that reads one response and not another, over one
// connection. The other must end, and the connection go on.
func TestHTTP2StreamsThatAreNotRead(t *testing.T) {
	forServer, forClient := selfSigned(t)
	failed := make(chan error, 1)
	address, _ := runTransport(t, server.Transport{TLS: forServer}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, err := io.Copy(w, bytes.NewReader(make([]byte, 64<<20)))
			failed <- err
		}
	})
	client := clientWith(t, true, forClient)
	large, err := client.Get("https://" + address + "/large")
	if err != nil {
		t.Fatal(err)
	}
	defer large.Body.Close()
	select {
	case err := <-failed:
		if err == nil {
			t.Error("a response that nobody reads was written")
		}
	case <-time.After(longTimeout):
		t.Fatal("a response that nobody reads has not ended")
	}
	small, err := client.Get("https://" + address + "/small")
	if err != nil {
		t.Fatalf("another stream of the connection: %v", err)
	}
	defer small.Body.Close()
	if small.StatusCode != http.StatusOK {
		t.Errorf("another stream of the connection: %s", small.Status)
	}
}

// TestHTTP2Settings checks the limits that clients are told.
func TestHTTP2Settings(t *testing.T) {
	address, _ := runTransport(t, server.Transport{H2C: true}, func(http.ResponseWriter, *http.Request) {})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	framer := http2.NewFramer(conn, conn)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("the first frame is %v", frame)
	}
	for id, want := range map[http2.SettingID]uint32{
		http2.SettingMaxConcurrentStreams: 128,
		http2.SettingMaxFrameSize:         16 << 10,
		http2.SettingMaxHeaderListSize:    16<<10 + 320,
		http2.SettingHeaderTableSize:      4 << 10,
		http2.SettingInitialWindowSize:    256 << 10,
	} {
		if got, ok := settings.Value(id); !ok || got != want {
			t.Errorf("%v is %d, want %d", id, got, want)
		}
	}
	// Browsers open WebSockets over HTTP/1.1 unless they are told otherwise (RFC 8441).
	if _, ok := settings.Value(http2.SettingEnableConnectProtocol); ok {
		t.Error("WebSockets over HTTP/2 are offered")
	}
}

// TestHTTP2Errors has a client that breaks the protocol.
func TestHTTP2Errors(t *testing.T) {
	names := make(chan string, 1)
	address, _ := runTransport(t, server.Transport{H2C: true, OnHTTP2Error: func(name string) { names <- name }}, func(http.ResponseWriter, *http.Request) {})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := http2.NewFramer(conn, conn).WritePing(false, [8]byte{}); err != nil {
		t.Fatal(err)
	}
	select {
	case name := <-names:
		if name != "conn_PROTOCOL_ERROR_first_settings" {
			t.Errorf("the error is %s", name)
		}
	case <-time.After(longTimeout):
		t.Error("no error is reported")
	}
}

// TestHTTP2Shutdown shuts down a server while a call is in flight over HTTP/2.
func TestHTTP2Shutdown(t *testing.T) {
	forServer, forClient := selfSigned(t)
	for name, transport := range map[string]server.Transport{"https": {TLS: forServer}, "http": {H2C: true}} {
		t.Run(name, func(t *testing.T) {
			entered, release := make(chan struct{}), make(chan struct{})
			address, stop := runTransport(t, transport, func(w http.ResponseWriter, _ *http.Request) {
				close(entered)
				<-release
				_, _ = io.WriteString(w, "done")
			})
			client := clientWith(t, true, forClient)
			got := make(chan string, 1)
			go func() {
				response, err := client.Get(name + "://" + address)
				if err != nil {
					got <- err.Error()
					return
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				got <- fmt.Sprint(string(body), " ", err)
			}()
			<-entered
			ended := make(chan error, 1)
			go func() { ended <- stop() }()
			for !refuses(address) {
				time.Sleep(time.Millisecond)
			}
			select {
			case err := <-ended:
				t.Errorf("Run returned with a call in flight: %v", err)
			default:
			}
			close(release)
			if body := <-got; body != "done <nil>" {
				t.Errorf("the call in flight received %q", body)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHTTP2ShutdownOfANewConnection shuts down a server while a client makes its connection. The client
// sends no request then, as browsers do that connect beforehand, and must not delay the shutdown.
func TestHTTP2ShutdownOfANewConnection(t *testing.T) {
	forServer, forClient := selfSigned(t)
	address, stop := runTransport(t, server.Transport{TLS: forServer}, func(http.ResponseWriter, *http.Request) {})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The first connection is accepted when a later one is served.
	response, err := clientWith(t, false, forClient).Get("https://" + address)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for !refuses(address) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // in which the server tells its connections to end

	config := forClient.Clone()
	config.ServerName, config.NextProtos = "localhost", []string{"h2"}
	secure := tls.Client(conn, config)
	if _, err := io.WriteString(secure, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(secure, secure)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if _, err := framer.ReadFrame(); err != nil {
				return
			}
		}
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(longTimeout / 2):
		t.Error("the shutdown waits for the connection")
	}
}
