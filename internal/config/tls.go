package config

import (
	"strings"
)

// TLS is how clients connect to the gateway.
type TLS struct {
	Cert       string `name:"tls-cert" placeholder:"PATH" help:"Certificate to serve HTTPS with, followed by those of intermediate authorities, as PEM. Needs --tls-key. Both files are read again when they change (none; HTTP without TLS)."`
	Key        string `name:"tls-key" placeholder:"PATH" help:"Private key of --tls-cert, as PEM (none)."`
	ClientCA   string `name:"tls-client-ca" placeholder:"PATH" help:"Authorities, as PEM. Clients must have a certificate that one of them has issued. The file is read again when it changes (none)."`
	SelfSigned bool   `name:"tls-self-signed" help:"Serve HTTPS with a certificate for localhost that is made at the start, to try it out."`
	H2C        bool   `name:"h2c" env:"MESH_GATEWAY_H2C" help:"Serve HTTP/2 without TLS as well as HTTP/1.1, for a proxy that speaks it. With TLS, HTTP/2 is always served."`
}

// Enabled reports whether clients are served with TLS.
func (t *TLS) Enabled() bool { return t.Cert != "" || t.SelfSigned }

func (t *TLS) validate(p *Problems) {
	p.pair("tls-cert", t.Cert, "tls-key", t.Key)
	if t.SelfSigned && t.Cert != "" {
		p.add("tls-self-signed", "cannot be used together with --tls-cert")
	}
	if t.ClientCA != "" && t.Cert == "" {
		p.add("tls-client-ca", "needs --tls-cert and --tls-key: without them clients cannot be asked for certificates")
	}
	if t.H2C && t.Enabled() {
		p.add("h2c", "cannot be used together with TLS: with TLS, HTTP/2 is always served")
	}
}

// UpstreamTLS is how the gateway connects to Mesh with TLS.
type UpstreamTLS struct {
	CA         string `name:"upstream-ca" placeholder:"PATH" help:"Authorities, as PEM, one of which must have issued the certificate of the Mesh gRPC API. The file is read again when it changes (those of the system)."`
	Cert       string `name:"upstream-cert" placeholder:"PATH" help:"Client certificate for the Mesh gRPC API, as PEM. Needs --upstream-key. Both files are read again when they change (none)."`
	Key        string `name:"upstream-key" placeholder:"PATH" help:"Private key of --upstream-cert, as PEM (none)."`
	ServerName string `name:"upstream-server-name" placeholder:"NAME" help:"Name that the certificate of the Mesh gRPC API must be for (the host of --upstream)."`
}

// Enabled reports whether a setting differs from the default.
func (t *UpstreamTLS) Enabled() bool { return *t != UpstreamTLS{} }

func (t *UpstreamTLS) validate(c *Config, p *Problems) {
	p.pair("upstream-cert", t.Cert, "upstream-key", t.Key)
	if strings.ContainsAny(t.ServerName, ":/ ") {
		p.add("upstream-server-name", "%q is not a host name, such as mesh.example", t.ServerName)
	}
	plaintext := ""
	switch {
	case c.Sandbox.Enabled:
		plaintext = "--sandbox"
	case c.Upstream.Plaintext:
		plaintext = "--upstream-plaintext"
	default:
		return
	}
	for _, setting := range []struct{ name, value string }{
		{"upstream-ca", t.CA}, {"upstream-cert", t.Cert}, {"upstream-key", t.Key}, {"upstream-server-name", t.ServerName},
	} {
		if setting.value != "" {
			p.add(setting.name, "cannot be used together with %s: there is no TLS to Mesh", plaintext)
		}
	}
}

// pair reports a problem if one of two settings is given without the other.
func (p *Problems) pair(first, firstValue, second, secondValue string) {
	switch {
	case firstValue != "" && secondValue == "":
		p.add(first, "needs --%s", second)
	case firstValue == "" && secondValue != "":
		p.add(second, "needs --%s", first)
	}
}
