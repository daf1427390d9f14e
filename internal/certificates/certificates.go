// Package certificates reads certificates, keys and authorities from PEM files, and reads them again
// when the files change. It serves both sides of TLS: the listener of the gateway and the connections
// to Mesh.
//
// Changes are found by reading the files every two seconds and comparing what they contain. That
// takes no system calls for notification, which miss changes on network file systems and see several
// events for one change where, as with the volumes of Kubernetes, the files are behind symbolic links
// that are replaced.
package certificates

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// PollInterval is how often the files are read. It is the longest time until a change has
	// effect on new connections.
	PollInterval = 2 * time.Second
	// ExpiryWarning is how long before its end a certificate is warned of in the log.
	ExpiryWarning = 7 * 24 * time.Hour
)

// File is a PEM file.
type File struct {
	// Name is what errors call the file, such as the flag that it was passed with.
	Name string
	// Setting is what the log calls the file, or "" for its name without the hyphens of a flag.
	Setting string
	// Path may be "" if there is no such file.
	Path string
}

// Files are what a [Source] reads.
type Files struct {
	// Certificate is a certificate, followed by those of intermediate authorities, and Key is its
	// private key. Both paths are set, or neither is.
	Certificate, Key File
	// Authorities are the certificates of authorities that issue those of the other side.
	Authorities File
}

// Source has the certificates of one side of TLS. It is safe for concurrent use.
type Source struct {
	files  Files
	logger *slog.Logger

	// mu is held while files are read.
	mu sync.Mutex
	// seen are the contents that were read last, whether they could be used or not.
	seen contents
	// failed is set while the files cannot be used.
	failed  atomic.Bool
	current atomic.Pointer[material]
}

// material is what was read from files that could be used.
type material struct {
	certificate *tls.Certificate
	authorities *x509.CertPool
	server      *tls.Config
}

// contents are hashes of the contents of the files, in the order of [Files].
type contents [3][sha256.Size]byte

// Open reads the files. [Source.Watch] logs later changes with the logger.
//
// A certificate that has expired is no error, since a gateway that does not start helps nobody.
// Watch warns of it.
func Open(files Files, logger *slog.Logger) (*Source, error) {
	s := &Source{files: files, logger: logger}
	if _, err := s.read(true); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload reads the files again. If they cannot be used, it returns an error that names the file, and
// what was read before remains in use.
func (s *Source) Reload() error {
	_, err := s.read(true)
	return err
}

// Watch reads the files again whenever they have changed, until ctx is done. It logs what has
// changed, why files cannot be used, and that the certificate is about to expire.
func (s *Source) Watch(ctx context.Context) {
	if about := s.describe(); len(about) > 0 {
		s.logger.Info("certificates loaded", about...)
	}
	ticker := time.NewTicker(PollInterval)
	defer ticker.Stop()
	var warned *material
	for {
		if m := s.current.Load(); m != warned && m.remaining() < ExpiryWarning {
			warned = m
			s.logger.Warn("the certificate expires soon, or has expired", s.describe()...)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch changed, err := s.read(false); {
		case err != nil:
			s.logger.Error("certificates changed and cannot be used; those loaded before remain in use", "error", err.Error())
		case changed:
			s.logger.Info("certificates changed", s.describe()...)
		}
	}
}

// describe returns what the log says of the certificates.
func (s *Source) describe() []any {
	var about []any
	if leaf := s.current.Load().leaf(); leaf != nil {
		names := append([]string(nil), leaf.DNSNames...)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		about = append(about, "names", strings.Join(names, ","), "not_after", leaf.NotAfter.UTC().Format(time.RFC3339), "sha256", Fingerprint(leaf))
	}
	for _, file := range []File{s.files.Certificate, s.files.Authorities} {
		if file.Path != "" {
			about = append(about, cmp.Or(file.Setting, strings.TrimPrefix(file.Name, "--")), file.Path)
		}
	}
	return about
}

// Certificate returns the certificate in use, or nil if there is none.
func (s *Source) Certificate() *x509.Certificate { return s.current.Load().leaf() }

// Current reports whether what is in use is what the files contain. If not, they could not be used.
func (s *Source) Current() bool { return !s.failed.Load() }

// ServerConfig returns the configuration of a listener: TLS 1.2 or later with Go's cipher suites, and
// HTTP/2 and HTTP/1.1 by ALPN. Each connection is served with what is in use when it is made. With
// authorities, clients must have a certificate that one of them has issued.
func (s *Source) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols(),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.current.Load().server, nil
		},
	}
}

// ClientConfig returns the configuration for one connection to a server, with what is in use now: TLS
// 1.2 or later, the authorities, or those of the system if there are none, and the certificate.
func (s *Source) ClientConfig() *tls.Config {
	m := s.current.Load()
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: m.authorities}
	if m.certificate != nil {
		// Unlike Certificates, this sends the certificate even if its authority is not among those
		// that the server asks for. The server then says that it does not know the authority,
		// instead of that there is no certificate.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.certificate, nil }
	}
	return config
}

func protocols() []string { return []string{"h2", "http/1.1"} }

// read reads the files, unless force is false and they contain what was seen before. It reports
// whether other certificates are in use now.
func (s *Source) read(force bool) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == (Files{}) && s.current.Load() != nil {
		return false, nil // there is nothing to read
	}
	var seen contents
	data := make([][]byte, len(seen))
	var errs []error
	for i, file := range []File{s.files.Certificate, s.files.Key, s.files.Authorities} {
		if file.Path == "" {
			continue
		}
		if data[i], err = os.ReadFile(file.Path); err != nil {
			errs = append(errs, fileError(file, err))
		}
		// An error is hashed too, so that it is logged once.
		seen[i] = sha256.Sum256(append(data[i], errorText(err)...))
	}
	if !force && seen == s.seen {
		return false, nil
	}
	changed = seen != s.seen
	s.seen = seen
	if err := errors.Join(errs...); err != nil {
		s.failed.Store(true)
		return false, err
	}
	m, err := s.parse(data[0], data[1], data[2])
	if err != nil {
		s.failed.Store(true)
		return false, err
	}
	s.failed.Store(false)
	// Sessions are not affected: their keys belong to the configuration of the listener.
	s.current.Store(m)
	return changed, nil
}

// parse returns what the files contain.
func (s *Source) parse(certificate, key, authorities []byte) (*material, error) {
	m := new(material)
	if s.files.Certificate.Path != "" {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, s.pairError(certificate, key, err)
		}
		m.certificate = &pair
		if old := s.current.Load(); old != nil && m.remaining() <= 0 && old.remaining() > 0 {
			return nil, fileError(s.files.Certificate, fmt.Errorf("the certificate expired at %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339)))
		}
	}
	if s.files.Authorities.Path != "" {
		var err error
		if m.authorities, err = parseAuthorities(authorities); err != nil {
			return nil, fileError(s.files.Authorities, err)
		}
	}
	m.configure()
	return m, nil
}

// configure sets the configuration of connections to the gateway.
func (m *material) configure() {
	m.server = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols()}
	if m.certificate != nil {
		m.server.Certificates = []tls.Certificate{*m.certificate}
	}
	if m.authorities != nil {
		m.server.ClientAuth, m.server.ClientCAs = tls.RequireAndVerifyClientCert, m.authorities
	}
}

func (m *material) leaf() *x509.Certificate {
	if m.certificate == nil {
		return nil
	}
	return m.certificate.Leaf
}

// remaining is how long the certificate is still valid. Without one it is ExpiryWarning, of which
// nobody is warned.
func (m *material) remaining() time.Duration {
	if m.certificate == nil {
		return ExpiryWarning
	}
	return time.Until(m.certificate.Leaf.NotAfter)
}

// parseAuthorities is [x509.CertPool.AppendCertsFromPEM], except that it says what is wrong.
func parseAuthorities(data []byte) (*x509.CertPool, error) {
	pool, found := x509.NewCertPool(), 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		found++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", found, err)
		}
		pool.AddCert(certificate)
	}
	if found == 0 {
		return nil, errors.New("no certificate found; want PEM, with a line BEGIN CERTIFICATE")
	}
	return pool, nil
}

// pairError says which of the two files is to blame for an error of [tls.X509KeyPair].
func (s *Source) pairError(certificate, key []byte, err error) error {
	if _, faulty := parseAuthorities(certificate); faulty != nil {
		return fileError(s.files.Certificate, faulty)
	}
	text := strings.TrimPrefix(err.Error(), "tls: ")
	block, _ := pem.Decode(key)
	switch {
	case block == nil:
		return fileError(s.files.Key, errors.New("no private key found; want PEM, with a line BEGIN PRIVATE KEY"))
	case strings.Contains(text, "does not match"):
		return fmt.Errorf("%s %s does not belong to the certificate in %s %s", s.files.Key.Name, s.files.Key.Path, s.files.Certificate.Name, s.files.Certificate.Path)
	}
	return fileError(s.files.Key, errors.New(text))
}

// fileError returns err with the name of the file and its path.
func fileError(file File, err error) error {
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		err = path.Err // without the path
	}
	return fmt.Errorf("%s: %s: %w", cmp.Or(file.Name, "certificates"), file.Path, err)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
