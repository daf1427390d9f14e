package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// selfSignedLife is how long a certificate of [SelfSigned] is valid.
const selfSignedLife = 365 * 24 * time.Hour

// SelfSigned returns a source with a certificate that was made for this purpose, for localhost, the
// loopback addresses and the hosts. Nobody trusts it, and its key is not written anywhere. It is for
// trying TLS.
func SelfSigned(logger *slog.Logger, hosts ...string) (*Source, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          nil, // a random one is chosen
		Subject:               pkix.Name{CommonName: "mesh-gateway, self-signed"},
		NotBefore:             now.Add(-time.Hour), // the clocks of clients differ
		NotAfter:              now.Add(selfSignedLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true, // so that it can be passed as an authority
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			if ip.IsLoopback() || ip.IsUnspecified() {
				continue
			}
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "localhost" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	m := &material{certificate: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}
	m.configure()
	s := &Source{logger: logger}
	s.current.Store(m)
	return s, nil
}

// Fingerprint returns the SHA-256 of a certificate as browsers and openssl print it: pairs of
// hexadecimal digits, separated by colons.
func Fingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}
