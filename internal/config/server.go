package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/openapi"
)

// ShutdownTimeout is the time limit for shutting down. It includes [Server].DrainDelay.
const ShutdownTimeout = 30 * time.Second

// DefaultAdminListen is the default of [Server].AdminListen.
const DefaultAdminListen = "127.0.0.1:9090"

// Server is how the gateway is reached, and how it ends.
type Server struct {
	Listen       string        `name:"listen" placeholder:"HOST:PORT" help:"Address to serve the API on (:8080; 127.0.0.1:8080 with --sandbox or --credentials)."`
	AdminListen  string        `name:"admin-listen" placeholder:"HOST:PORT" help:"Address to serve health checks, metrics and profiles on, for operators; empty disables it (127.0.0.1:9090; with --sandbox a free port if 9090 is in use)."`
	PublicURL    string        `name:"public-url" placeholder:"URL" help:"URL of the gateway for its clients, such as https://api.example.com, as the API documentation shows it (none)."`
	TrustedProxy []Network     `name:"trusted-proxy" live:"" placeholder:"CIDR" help:"Address or network of a proxy whose X-Forwarded-For header is trusted, such as 10.0.0.0/8; repeatable (none)."`
	DrainDelay   time.Duration `name:"drain-delay" placeholder:"DURATION" help:"How long to keep serving after SIGTERM, with /readyz at 503, so that load balancers stop sending requests (5s; 0s with --sandbox)."`
}

// derive fills in the defaults. A gateway that adds a key of its own, or whose test keys are public,
// is not reachable from other machines unless told so. There is no load balancer in front of a
// sandbox.
func (s *Server) derive(c *Config) {
	if s.Listen == "" {
		s.Listen = ":8080"
		if c.Sandbox.Enabled || c.Upstream.Credentials != "" {
			s.Listen = "127.0.0.1:8080"
		}
	}
	if !c.Given("admin-listen") {
		s.AdminListen = DefaultAdminListen
	}
	if !c.Given("drain-delay") && !c.Sandbox.Enabled {
		s.DrainDelay = 5 * time.Second
	}
}

func (s *Server) validate(c *Config, p *Problems) {
	p.addError("listen", CheckAddress(s.Listen))
	if s.AdminListen != "" {
		p.addError("admin-listen", CheckAddress(s.AdminListen))
	}
	p.addError("public-url", openapi.Deployment{PublicURL: s.PublicURL}.Validate())
	if s.DrainDelay < 0 || s.DrainDelay >= ShutdownTimeout {
		p.add("drain-delay", "must be at least 0s and less than %s, the time limit for shutting down, not %s", ShutdownTimeout, s.DrainDelay)
	}
	if c.Upstream.Credentials != "" && !loopback(s.Listen) {
		p.add("listen", "%s is not a loopback address, so others could use your key; with --credentials pass one such as 127.0.0.1:8080", s.Listen)
	}
}

// Deployment is the gateway as the API documentation shows it.
func (c *Config) Deployment() openapi.Deployment {
	return openapi.Deployment{PublicURL: c.Server.PublicURL, Sandbox: c.Sandbox.Enabled}
}

// Network is an address or a network.
type Network struct{ netip.Prefix }

// UnmarshalText parses an address or a network in CIDR notation.
func (n *Network) UnmarshalText(text []byte) (err error) {
	n.Prefix, err = access.ParseNetwork(string(text))
	return err
}

// CheckAddress returns an error if address is not HOST:PORT. HOST may be empty for all interfaces,
// and PORT 0 for a free port.
func CheckAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if addressError := (*net.AddrError)(nil); errors.As(err, &addressError) {
		return fmt.Errorf("%q is not HOST:PORT: %s", address, addressError.Err)
	}
	if port == "" {
		return fmt.Errorf("%q is not HOST:PORT: missing port; 0 picks a free one", address)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q is not HOST:PORT: the port must be from 0 to 65535", address)
	}
	return nil
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
