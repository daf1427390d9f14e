package certificates_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/certificates"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// directory has the files of a source.
type directory struct{ cert, key, ca string }

func newDirectory(t *testing.T) directory {
	dir := t.TempDir()
	return directory{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// put writes the pair.
func (d directory) put(t *testing.T, pair *meshtest.Certificate) {
	t.Helper()
	write(t, d.cert, pair.Certificate)
	write(t, d.key, pair.Key)
}

// files are the pair.
func (d directory) files() certificates.Files {
	return certificates.Files{Certificate: certificates.File{Name: "--cert", Path: d.cert}, Key: certificates.File{Name: "--key", Path: d.key}}
}

func open(t *testing.T, files certificates.Files) *certificates.Source {
	t.Helper()
	source, err := certificates.Open(files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func TestUnusableFiles(t *testing.T) {
	good, other := meshtest.Issue(t, "localhost", time.Hour, nil), meshtest.Issue(t, "localhost", time.Hour, nil)
	garbage := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("garbage")})
	for _, test := range []struct {
		name                        string
		certificate, key, authority []byte
		want                        string // CERT, KEY and CA are the paths
	}{
		{"no certificate file", nil, good.Key, good.Certificate, "--cert: CERT: no such file or directory"},
		{"no key file", good.Certificate, nil, good.Certificate, "--key: KEY: no such file or directory"},
		{"no authorities file", good.Certificate, good.Key, nil, "--ca: CA: no such file or directory"},
		{"an empty certificate file", []byte{}, good.Key, good.Certificate, "--cert: CERT: no certificate found"},
		{"a key in place of the certificate", good.Key, good.Key, good.Certificate, "--cert: CERT: no certificate found"},
		{"a certificate that is garbage", garbage, good.Key, good.Certificate, "--cert: CERT: certificate 1: x509: "},
		{"a certificate in place of the key", good.Certificate, good.Certificate, good.Certificate, "--key: KEY: "},
		{"a key that is no PEM", good.Certificate, []byte("secret"), good.Certificate, "--key: KEY: no private key found"},
		{"the key of another certificate", good.Certificate, other.Key, good.Certificate, "--key KEY does not belong to the certificate in --cert CERT"},
		{"authorities without a certificate", good.Certificate, good.Key, []byte("none\n"), "--ca: CA: no certificate found"},
		{"an authority that is garbage", good.Certificate, good.Key, append(bytes.Clone(good.Certificate), garbage...), "--ca: CA: certificate 2: x509: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDirectory(t)
			for path, data := range map[string][]byte{d.cert: test.certificate, d.key: test.key, d.ca: test.authority} {
				if data != nil {
					write(t, path, data)
				}
			}
			files := d.files()
			files.Authorities = certificates.File{Name: "--ca", Path: d.ca}
			want := strings.NewReplacer("CERT", d.cert, "KEY", d.key, "CA", d.ca).Replace(test.want)
			_, err := certificates.Open(files, slog.New(slog.DiscardHandler))
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("the error is %v, want %s", err, want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error has the contents of the key: %v", err)
			}
		})
	}
}

func TestReload(t *testing.T) {
	first, second, expired := meshtest.Issue(t, "first", time.Hour, nil), meshtest.Issue(t, "second", time.Hour, nil), meshtest.Issue(t, "expired", -time.Hour, nil)
	d := newDirectory(t)
	d.put(t, first)
	source := open(t, d.files())
	for _, step := range []struct {
		name     string
		change   func()
		wantName string
		wantErr  string
	}{
		{"nothing has changed", func() {}, "first", ""},
		{"the key is of another certificate", func() { write(t, d.key, second.Key) }, "first", "does not belong"},
		{"the certificate has come too", func() { write(t, d.cert, second.Certificate) }, "second", ""},
		{"a file is gone", func() { _ = os.Remove(d.cert) }, "second", "no such file"},
		{"an expired certificate in place of a valid one", func() { d.put(t, expired) }, "second", "the certificate expired at "},
		{"the one before", func() { d.put(t, first) }, "first", ""},
	} {
		step.change()
		err := source.Reload()
		if step.wantErr == "" && err != nil || step.wantErr != "" && (err == nil || !strings.Contains(err.Error(), step.wantErr)) {
			t.Errorf("%s: the error is %v, want %q", step.name, err, step.wantErr)
		}
		if got := source.Certificate().Subject.CommonName; got != step.wantName {
			t.Errorf("%s: the certificate is %s, want %s", step.name, got, step.wantName)
		}
		if source.Current() != (step.wantErr == "") {
			t.Errorf("%s: Current is %t", step.name, source.Current())
		}
	}
}

func TestExpiredCertificateIsOpened(t *testing.T) {
	d := newDirectory(t)
	d.put(t, meshtest.Issue(t, "expired", -time.Hour, nil))
	if got := open(t, d.files()).Certificate().Subject.CommonName; got != "expired" {
		t.Errorf("the certificate is %s", got)
	}
}

// TestWatch changes files as operators and Kubernetes do, and looks after one poll.
func TestWatch(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, d directory, next *meshtest.Certificate)
	}{
		{"files are written", func(t *testing.T, d directory, next *meshtest.Certificate) { d.put(t, next) }},
		{"files of the same time are renamed", func(t *testing.T, d directory, next *meshtest.Certificate) {
			for path, data := range map[string][]byte{d.cert: next.Certificate, d.key: next.Key} {
				before, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				write(t, path+".new", data)
				if err := errors.Join(os.Chtimes(path+".new", before.ModTime(), before.ModTime()), os.Rename(path+".new", path)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"a link to the directory is replaced", func(t *testing.T, d directory, next *meshtest.Certificate) {
			data := filepath.Join(filepath.Dir(filepath.Dir(d.cert)), "..data")
			newer := t.TempDir()
			directory{cert: filepath.Join(newer, "cert.pem"), key: filepath.Join(newer, "key.pem")}.put(t, next)
			if err := errors.Join(os.Symlink(newer, data+"_tmp"), os.Rename(data+"_tmp", data)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			first, second := meshtest.Issue(t, "first", 30*24*time.Hour, nil), meshtest.Issue(t, "second", 30*24*time.Hour, nil)
			// As in a volume of Kubernetes: the path leads through a link.
			volume, data := t.TempDir(), t.TempDir()
			if err := os.Symlink(data, filepath.Join(volume, "..data")); err != nil {
				t.Fatal(err)
			}
			d := directory{cert: filepath.Join(volume, "..data", "cert.pem"), key: filepath.Join(volume, "..data", "key.pem")}
			d.put(t, first)
			synctest.Test(t, func(t *testing.T) {
				source := open(t, d.files())
				defer watch(t, source)()
				test.change(t, d, second)
				time.Sleep(certificates.PollInterval)
				synctest.Wait()
				if got := source.Certificate().Subject.CommonName; got != "second" {
					t.Errorf("after a poll, the certificate is %s", got)
				}
			})
		})
	}
}

// watch runs Watch until the function that it returns is called.
func watch(t *testing.T, source *certificates.Source) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { source.Watch(ctx); close(done) }()
	synctest.Wait()
	return func() { cancel(); <-done }
}

func TestWhatIsLogged(t *testing.T) {
	// Certificates are made with the time of the machine, and synctest begins in the year 2000.
	at := time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(at))
		d := newDirectory(t)
		d.put(t, meshtest.Issue(t, "first", 30*24*time.Hour, nil))
		log := meshtest.NewTranscript()
		source, err := certificates.Open(d.files(), slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer watch(t, source)()
		for _, step := range []struct {
			name   string
			change func()
			// polls is how often the files are read until then.
			polls int
			want  string // or "" for nothing
		}{
			{"at the start", func() {}, 0, `msg="certificates loaded" names=first,localhost,127.0.0.1 not_after=`},
			{"no change", func() {}, 10, ""},
			{"a broken certificate, once", func() { write(t, d.cert, []byte("broken")) }, 10, "--cert: " + d.cert + ": no certificate found"},
			{"a file that is gone, once", func() { _ = os.Remove(d.cert) }, 10, "--cert: " + d.cert + ": no such file"},
			{"a new certificate", func() { d.put(t, meshtest.Issue(t, "second", 30*24*time.Hour, nil)) }, 2, `msg="certificates changed" names=second`},
			{"one that expires soon, once", func() { d.put(t, meshtest.Issue(t, "third", 24*time.Hour, nil)) }, 10, `msg="the certificate expires soon, or has expired" names=third`},
		} {
			before := strings.Count(log.String(), "\n")
			if step.polls == 0 {
				before = 0
			}
			step.change()
			time.Sleep(time.Duration(step.polls) * certificates.PollInterval)
			synctest.Wait()
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")[before:]
			var matching int
			for _, line := range lines {
				if step.want != "" && strings.Contains(line, step.want) {
					matching++
				}
			}
			if step.want == "" && len(lines) > 0 || step.want != "" && matching != 1 {
				t.Errorf("%s: logged %q, want one line with %q", step.name, lines, step.want)
			}
		}
	})
}

// handshake makes a connection between the configurations, and returns the errors of both sides. The
// client reads a byte, because with TLS 1.3 it learns then whether its certificate was accepted.
func handshake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		_, err = conn.Write([]byte{'x'})
		served <- err
	}()
	conn, err := tls.Dial("tcp", listener.Addr().String(), client)
	if err != nil {
		return state, <-served, err
	}
	defer conn.Close()
	_, clientErr = io.ReadFull(conn, make([]byte, 1))
	return conn.ConnectionState(), <-served, clientErr
}

// clientOf returns the configuration of a client that trusts the certificate.
func clientOf(trusted *meshtest.Certificate) *tls.Config {
	return &tls.Config{RootCAs: trusted.Pool()}
}

func TestServerConfig(t *testing.T) {
	first, second := meshtest.Issue(t, "first", time.Hour, nil), meshtest.Issue(t, "second", time.Hour, nil)
	d := newDirectory(t)
	d.put(t, first)
	source := open(t, d.files())
	config := source.ServerConfig()

	for _, test := range []struct {
		name   string
		client func(*tls.Config)
		want   string // the protocol; "" if the connection is refused
	}{
		{"HTTP/2 is preferred", func(c *tls.Config) { c.NextProtos = []string{"http/1.1", "h2"} }, "h2"},
		{"HTTP/1.1 alone", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, "http/1.1"},
		{"TLS 1.2", func(c *tls.Config) { c.NextProtos, c.MaxVersion = []string{"h2"}, tls.VersionTLS12 }, "h2"},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := clientOf(first)
			test.client(client)
			state, _, err := handshake(t, config, client)
			if (err == nil) != (test.want != "") || state.NegotiatedProtocol != test.want {
				t.Errorf("%v, protocol %q, want %q", err, state.NegotiatedProtocol, test.want)
			}
		})
	}
	t.Run("a reload has effect on the next connection", func(t *testing.T) {
		d.put(t, second)
		if err := source.Reload(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := handshake(t, config, clientOf(second)); err != nil {
			t.Error(err)
		}
		if _, _, err := handshake(t, config, clientOf(first)); err == nil {
			t.Error("the certificate before is still served")
		}
	})
}

// TestClientCertificates is mutual TLS between the two kinds of configurations.
func TestClientCertificates(t *testing.T) {
	oldCA, newCA := meshtest.Issue(t, "old CA", time.Hour, nil), meshtest.Issue(t, "new CA", time.Hour, nil)
	serverDir, clientDir := newDirectory(t), newDirectory(t)
	serverDir.put(t, meshtest.Issue(t, "gateway", time.Hour, oldCA))
	write(t, serverDir.ca, oldCA.Certificate)
	files := serverDir.files()
	files.Authorities = certificates.File{Name: "--client-ca", Path: serverDir.ca}
	server := open(t, files)

	clientDir.put(t, meshtest.Issue(t, "client", time.Hour, oldCA))
	write(t, clientDir.ca, oldCA.Certificate)
	files = clientDir.files()
	files.Authorities = certificates.File{Name: "--ca", Path: clientDir.ca}
	client := open(t, files)

	serverConfig := server.ServerConfig()
	sessions := tls.NewLRUClientSessionCache(4)
	connect := func() error {
		config := client.ClientConfig()
		config.ClientSessionCache = sessions
		_, serverErr, clientErr := handshake(t, serverConfig, config)
		return errors.Join(serverErr, clientErr)
	}

	if err := connect(); err != nil {
		t.Errorf("a client with a certificate: %v", err)
	}
	if _, err, _ := handshake(t, serverConfig, clientOf(oldCA)); err == nil {
		t.Error("a client without a certificate is accepted")
	}
	write(t, serverDir.ca, newCA.Certificate)
	if err := server.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := connect(); err == nil {
		t.Error("a client is accepted whose authority is not trusted any more, with a session of before")
	}
	clientDir.put(t, meshtest.Issue(t, "client", time.Hour, newCA))
	if err := client.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := connect(); err != nil {
		t.Errorf("a client with a certificate of the new authority: %v", err)
	}
	serverDir.put(t, meshtest.Issue(t, "gateway", time.Hour, newCA))
	if err := server.Reload(); err != nil {
		t.Fatal(err)
	}
	sessions = tls.NewLRUClientSessionCache(4)
	if err := connect(); err == nil {
		t.Error("a server is accepted whose authority the client does not trust")
	}
	write(t, clientDir.ca, newCA.Certificate)
	if err := client.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := connect(); err != nil {
		t.Errorf("after the client trusts the new authority: %v", err)
	}
}

func TestSelfSigned(t *testing.T) {
	source, err := certificates.SelfSigned(slog.New(slog.DiscardHandler), "gateway.example", "192.0.2.1", "0.0.0.0", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	// There are no files that a reload could read.
	if err := source.Reload(); err != nil {
		t.Fatal(err)
	}
	leaf := source.Certificate()
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "gateway.example", "192.0.2.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, _, err := handshake(t, source.ServerConfig(), &tls.Config{RootCAs: pool}); err != nil {
		t.Error(err)
	}
}
