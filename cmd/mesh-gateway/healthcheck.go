package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/certificates"
)

type healthcheckCommand struct {
	URL     string        `default:"http://127.0.0.1:8080/healthz" env:"MESH_GATEWAY_HEALTHCHECK_URL" placeholder:"URL" help:"URL to request; 200 is healthy. For a gateway with TLS it begins with https://, and the certificate of a loopback address is not verified (${default})."`
	CA      string        `name:"ca" env:"MESH_GATEWAY_HEALTHCHECK_CA" placeholder:"PATH" help:"Authorities, as PEM, to verify the certificate with, of a loopback address too (those of the system)."`
	Timeout time.Duration `default:"3s" env:"MESH_GATEWAY_HEALTHCHECK_TIMEOUT" placeholder:"DURATION" help:"How long to wait for the answer (${default})."`
}

// Help follows the summary in the command's help.
func (healthcheckCommand) Help() string { return aboutFlags }

// Validate is called by kong once the flags are read.
func (c healthcheckCommand) Validate() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return &usageError{"url", fmt.Errorf("%q is not an HTTP URL, such as http://127.0.0.1:8080/healthz", c.URL)}
	}
	if c.CA != "" && u.Scheme != "https" {
		return &usageError{"ca", errors.New("needs a --url that begins with https://")}
	}
	if c.Timeout <= 0 {
		return fmt.Errorf("--timeout must be more than 0s, not %s", c.Timeout)
	}
	return nil
}

// Run is for a container's HEALTHCHECK: the image has no curl.
func (c healthcheckCommand) Run(ctx context.Context, std streams) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return err
	}
	config, err := c.tls(request.URL)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("unhealthy: no answer from %s within %s", c.URL, c.Timeout)
	}
	if err != nil {
		return fmt.Errorf("unhealthy: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusBadRequest && request.URL.Scheme == "http" {
		return fmt.Errorf("unhealthy: %s answered %s; if the gateway serves TLS, pass --url %s", c.URL, response.Status, "https"+strings.TrimPrefix(c.URL, "http"))
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("unhealthy: %s answered %s", c.URL, response.Status)
	}
	_, err = fmt.Fprintln(std.out, "healthy")
	return err
}

// tls returns the configuration to verify the gateway with.
func (c healthcheckCommand) tls(u *url.URL) (*tls.Config, error) {
	if c.CA != "" {
		source, err := certificates.Open(certificates.Files{Authorities: certificates.File{Name: "--ca", Path: c.CA}}, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		return source.ClientConfig(), nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// A certificate is for the name that clients use, not for a loopback address. There is no
		// secret in the request, and it does not leave the machine.
		InsecureSkipVerify: loopback(u.Hostname()), //nolint:gosec // see above
	}, nil
}

// loopback reports whether the host is this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
