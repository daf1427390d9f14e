package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
	"github.com/meshtrade/mesh-gateway/openapi"
)

type serveCommand struct {
	Listen      string `placeholder:"HOST:PORT" help:"Where to serve the API (:8080; 127.0.0.1:8080 with --sandbox or --credentials)."`
	AdminListen string `default:"127.0.0.1:9090" placeholder:"HOST:PORT" help:"Where to serve health and profiles to operators; empty for nowhere."`

	Upstream          string `placeholder:"HOST:PORT" help:"The Mesh gRPC API (its production address)."`
	UpstreamPlaintext bool   `help:"Speak to the upstream without TLS."`
	Sandbox           bool   `help:"Front the built-in sandbox instead of an upstream; no account is needed."`
	SandboxGRPCListen string `name:"sandbox-grpc-listen" placeholder:"HOST:PORT" help:"Where to serve the sandbox to gRPC clients too, such as 127.0.0.1:50051."`
	sandboxFlags

	PublicURL      string         `name:"public-url" placeholder:"URL" help:"What clients reach the gateway by, such as https://api.example.com: the documentation names it."`
	CORSOrigin     []origin       `name:"cors-origin" placeholder:"ORIGIN" help:"An origin whose pages may call, such as https://app.example.com; repeatable."`
	RateLimitRead  policy.Rate    `default:"600/1m" placeholder:"N/PERIOD" help:"Reads that one API key may make; 0 for no limit (600/1m). Its client address may make four times that."`
	RateLimitWrite policy.Rate    `default:"120/1m" placeholder:"N/PERIOD" help:"Writes, likewise (120/1m)."`
	MaxStreams     int            `default:"5000" placeholder:"N" help:"How many streams may be open at a time (${default})."`
	MaxKeyStreams  int            `default:"100" placeholder:"N" help:"How many of them one API key may have open (${default})."`
	MaxBodyBytes   int64          `default:"1048576" placeholder:"BYTES" help:"The largest request body taken (${default})."`
	RequestTimeout time.Duration  `default:"30s" placeholder:"DURATION" help:"The longest a call may take; streams have no limit (${default})."`
	DrainDelay     *time.Duration `placeholder:"DURATION" help:"How long to go on serving after SIGTERM, with /readyz at 503, until load balancers send no more (5s; 0s with --sandbox)."`
	TrustedProxy   []trustedProxy `placeholder:"CIDR" help:"A proxy whose X-Forwarded-For is believed, an address or a network; repeatable."`
	Credentials    string         `placeholder:"auto|PATH" help:"Add your own key and group from a Mesh credentials file to requests that carry none. Loopback only."`
}

func (c *serveCommand) deployment() openapi.Deployment {
	return openapi.Deployment{PublicURL: c.PublicURL, Sandbox: c.Sandbox}
}

// origin is a CORS origin, checked.
type origin string

func (o *origin) UnmarshalText(text []byte) error {
	parsed, err := middleware.ParseOrigin(string(text))
	*o = origin(parsed)
	return err
}

// trustedProxy is an address or a network.
type trustedProxy struct{ netip.Prefix }

func (p *trustedProxy) UnmarshalText(text []byte) (err error) {
	if address, addressErr := netip.ParseAddr(string(text)); addressErr == nil {
		p.Prefix = netip.PrefixFrom(address, address.BitLen())
		return nil
	}
	if p.Prefix, err = netip.ParsePrefix(string(text)); err != nil {
		return fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text)
	}
	return nil
}

// Validate is called by kong once the flags are read.
func (c *serveCommand) Validate() error {
	switch {
	case c.Sandbox && c.Upstream != "":
		return errors.New("--sandbox and --upstream exclude each other")
	case c.Sandbox && c.UpstreamPlaintext:
		return errors.New("--sandbox and --upstream-plaintext exclude each other")
	case c.Sandbox && c.Credentials != "":
		return errors.New("--sandbox and --credentials exclude each other: the sandbox prints keys of its own, and yours stays yours")
	case !c.Sandbox && (c.SandboxGRPCListen != "" || c.set()):
		return errors.New("--sandbox-grpc-listen, --sandbox-seed, --sandbox-clock and --sandbox-file need --sandbox")
	case c.deployment().Validate() != nil:
		return fmt.Errorf("--public-url: %w", c.deployment().Validate())
	case c.MaxStreams < 1:
		return fmt.Errorf("--max-streams: must be at least 1, not %d", c.MaxStreams)
	case c.MaxKeyStreams < 1:
		return fmt.Errorf("--max-key-streams: must be at least 1, not %d", c.MaxKeyStreams)
	case c.MaxBodyBytes < 1:
		return fmt.Errorf("--max-body-bytes: must be at least 1, not %d", c.MaxBodyBytes)
	case c.RequestTimeout <= 0:
		return fmt.Errorf("--request-timeout: must be above 0, not %s", c.RequestTimeout)
	case c.drainDelay() < 0 || c.drainDelay() >= server.EndTimeout:
		return fmt.Errorf("--drain-delay: must be from 0s to below %s, in which all must have ended, not %s", server.EndTimeout, c.drainDelay())
	}
	for _, address := range []struct{ flag, value string }{{"listen", c.Listen}, {"admin-listen", c.AdminListen}, {"upstream", c.Upstream}, {"sandbox-grpc-listen", c.SandboxGRPCListen}} {
		if address.value == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(address.value); err != nil {
			return &usageError{address.flag, fmt.Errorf("want HOST:PORT: %w", err)}
		}
	}
	if c.Credentials != "" && !loopback(c.listen()) {
		return &usageError{"listen", fmt.Errorf("%s can be reached by others, who would act with your key: --credentials needs a loopback address such as 127.0.0.1:8080", c.Listen)}
	}
	return nil
}

// listen is the address to serve on. What acts for its caller unasked, or
// holds test keys that are public, stays on this machine unless told otherwise.
func (c *serveCommand) listen() string {
	if c.Listen == "" && (c.Sandbox || c.Credentials != "") {
		return "127.0.0.1:8080"
	}
	return cmp.Or(c.Listen, ":8080")
}

// drainDelay is how long to go on serving after SIGTERM. There is no load balancer
// in front of a sandbox.
func (c *serveCommand) drainDelay() time.Duration {
	switch {
	case c.DrainDelay != nil:
		return *c.DrainDelay
	case c.Sandbox:
		return 0
	}
	return 5 * time.Second
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Run serves until ctx is done and calls in flight have finished.
func (c *serveCommand) Run(ctx context.Context, std streams) (err error) {
	logger := slog.New(slog.NewJSONHandler(std.err, nil))
	s := server.New(logger, c.drainDelay())
	options := server.Options{
		Version:        buildVersion(),
		ReadRate:       c.RateLimitRead,
		WriteRate:      c.RateLimitWrite,
		Streams:        policy.StreamLimits{PerKey: c.MaxKeyStreams, All: c.MaxStreams},
		PublicURL:      c.PublicURL,
		MaxBodyBytes:   c.MaxBodyBytes,
		RequestTimeout: c.RequestTimeout,
		Stopping:       s.Stopping(),
		Drain:          s.Draining(),
		Logger:         logger,
	}
	for _, origin := range c.CORSOrigin {
		options.CORSOrigins = append(options.CORSOrigins, string(origin))
	}
	for _, proxy := range c.TrustedProxy {
		options.TrustedProxies = append(options.TrustedProxies, proxy.Prefix)
	}
	if c.Credentials != "" {
		found, err := credentials.Find(c.Credentials, os.Getenv)
		if err != nil {
			return &usageError{"credentials", err}
		}
		if found.Warning != "" {
			fmt.Fprintln(std.err, "warning:", found.Warning)
		}
		options.Credentials = &found
	}

	if c.Sandbox {
		if options.Sandbox, err = c.open(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, options.Sandbox.Close()) }()
	}
	if options.Conn, err = c.connect(options.Sandbox); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, options.Conn.Close()) }()

	routes, err := server.Routes(options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	address, err := s.Listen(c.listen(), routes)
	if err != nil {
		return err
	}
	var admin, sdks net.Addr
	if c.AdminListen != "" {
		if admin, err = s.ListenAdmin(c.AdminListen, server.AdminRoutes(options)); err != nil {
			return err
		}
	}
	if c.SandboxGRPCListen != "" {
		if sdks, err = s.ListenService(c.SandboxGRPCListen, options.Sandbox.NewServer()); err != nil {
			return err
		}
	}
	c.announce(std.out, browsable(address), admin, sdks)
	return s.Run(ctx)
}

// connect returns the connection to the Mesh to front. This is the one place
// where live and sandbox differ: in how the connection is made.
func (c *serveCommand) connect(mesh *sandbox.Sandbox) (*grpc.ClientConn, error) {
	options := upstream.Options{
		Plaintext: c.UpstreamPlaintext,
		UserAgent: "mesh-gateway/" + buildVersion(),
	}
	target := cmp.Or(c.Upstream, upstream.DefaultTarget)
	if mesh != nil {
		options.Plaintext, options.Dialer, target = true, mesh.DialContext, "sandbox:1"
	}
	conn, err := upstream.Dial(target, options)
	if err != nil {
		return nil, &usageError{"upstream", err}
	}
	return conn, nil
}

// announce tells a person what to do next.
func (c *serveCommand) announce(out io.Writer, base string, admin, sdks net.Addr) {
	var b strings.Builder
	fmt.Fprintf(&b, "Mesh API   %s/v1\nDocs       %s/docs\n", base, base)
	if admin != nil {
		fmt.Fprintf(&b, "Admin      %s\n", browsable(admin))
	}
	if sdks != nil {
		fmt.Fprintf(&b, "gRPC       %s, without TLS\n", sdks)
	}
	switch {
	case c.Sandbox:
		first := sandbox.Seeded()[0]
		fmt.Fprintf(&b, "Upstream   the built-in sandbox; nothing here is real\nKey        %s\nGroup      %s\n\nTry:\n\n  curl %s/v1/iam/api_users \\\n    -H 'X-Api-Key: %s' \\\n    -H 'X-Group: %s'\n\n",
			first.APIKey, first.Group, base, first.APIKey, first.Group)
	case c.Credentials != "":
		fmt.Fprintf(&b, "Upstream   %s, with your own key\n\nTry:\n\n  curl %s/v1/iam/api_users\n\n", cmp.Or(c.Upstream, upstream.DefaultTarget), base)
	default:
		fmt.Fprintf(&b, "Upstream   %s\n", cmp.Or(c.Upstream, upstream.DefaultTarget))
	}
	_, _ = io.WriteString(out, b.String())
}

// browsable is a URL that works on this machine for where a server listens.
func browsable(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return "http://" + address.String()
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
