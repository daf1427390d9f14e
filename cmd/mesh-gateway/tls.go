package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/certificates"
	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// certificateSources are the certificates of a gateway. Either may be nil.
type certificateSources struct {
	clients, upstream *certificates.Source
	serverName        string // of the upstream
}

// openCertificates reads the certificates. A self-signed one is also for the host to listen on.
func openCertificates(c *config.Config, logger *slog.Logger) (sources certificateSources, err error) {
	file := func(setting, path string) certificates.File {
		return certificates.File{Name: c.Name(setting), Setting: setting, Path: path}
	}
	switch logger := logger.With("for", "clients"); {
	case c.TLS.SelfSigned:
		var hosts []string
		if host, _, err := net.SplitHostPort(c.Server.Listen); err == nil && host != "" {
			hosts = append(hosts, host)
		}
		sources.clients, err = certificates.SelfSigned(logger, hosts...)
	case c.TLS.Cert != "":
		sources.clients, err = certificates.Open(certificates.Files{
			Certificate: file("tls-cert", c.TLS.Cert),
			Key:         file("tls-key", c.TLS.Key),
			Authorities: file("tls-client-ca", c.TLS.ClientCA),
		}, logger)
	}
	if err != nil || !c.Upstream.TLS.Enabled() {
		return sources, err
	}
	sources.serverName = c.Upstream.TLS.ServerName
	sources.upstream, err = certificates.Open(certificates.Files{
		Certificate: file("upstream-cert", c.Upstream.TLS.Cert),
		Key:         file("upstream-key", c.Upstream.TLS.Key),
		Authorities: file("upstream-ca", c.Upstream.TLS.CA),
	}, logger.With("for", "upstream"))
	return sources, err
}

// named are the sources that exist, by what metrics call them.
func (s certificateSources) named() map[string]*certificates.Source {
	named := make(map[string]*certificates.Source)
	if s.clients != nil {
		named["clients"] = s.clients
	}
	if s.upstream != nil {
		named["upstream"] = s.upstream
	}
	return named
}

// Reload reads the certificates again. Those that cannot be used remain as they were.
func (s certificateSources) Reload() error {
	var errs []error
	for _, source := range s.named() {
		errs = append(errs, source.Reload())
	}
	return errors.Join(errs...)
}

// watch follows changes of the files until ctx is done.
func (s certificateSources) watch(ctx context.Context) {
	var watching sync.WaitGroup
	for _, source := range s.named() {
		watching.Go(func() { source.Watch(ctx) })
	}
	watching.Wait()
}

// register adds the metrics of the certificates.
func (s certificateSources) register(metrics *telemetry.Metrics) {
	for name, source := range s.named() {
		metrics.RegisterTLS(name, telemetry.TLS{NotAfter: func() time.Time {
			if leaf := source.Certificate(); leaf != nil {
				return leaf.NotAfter
			}
			return time.Time{}
		}, Current: source.Current})
	}
}

// transport is how clients speak to the gateway.
func (s certificateSources) transport(h2c bool, metrics *telemetry.Metrics) server.Transport {
	transport := server.Transport{H2C: h2c}
	if s.clients != nil {
		transport.TLS = s.clients.ServerConfig()
	}
	if transport.TLS != nil || h2c {
		transport.OnHTTP2Error = metrics.HTTP2Errors()
	}
	return transport
}

// fingerprint is that of the certificate that clients are shown, or empty without TLS.
func (s certificateSources) fingerprint() string {
	if s.clients == nil {
		return ""
	}
	return certificates.Fingerprint(s.clients.Certificate())
}

// upstreamConfig returns the configuration of connections to Mesh, or nil for the default.
func (s certificateSources) upstreamConfig() func() *tls.Config {
	if s.upstream == nil {
		return nil
	}
	return func() *tls.Config {
		config := s.upstream.ClientConfig()
		config.ServerName = s.serverName
		return config
	}
}
