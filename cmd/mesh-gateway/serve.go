package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/stores"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
	"github.com/meshtrade/mesh-gateway/openapi"
)

type serveCommand struct {
	Listen      string  `placeholder:"HOST:PORT" help:"Address to serve the API on (:8080; 127.0.0.1:8080 with --sandbox or --credentials)."`
	AdminListen *string `placeholder:"HOST:PORT" help:"Address to serve health checks, metrics and profiles on, for operators; empty disables it (127.0.0.1:9090; with --sandbox a free port if 9090 is in use)."`

	Upstream            string `placeholder:"HOST:PORT" help:"Address of the Mesh gRPC API (${production})."`
	UpstreamPlaintext   bool   `help:"Connect to the address of --upstream without TLS."`
	UpstreamConnections *int   `placeholder:"N" help:"Number of connections to the Mesh gRPC API (${connections}; 1 with --sandbox)."`
	Sandbox             bool   `help:"Use the built-in sandbox instead of the live API. No Mesh account is needed."`
	SandboxGRPCListen   string `name:"sandbox-grpc-listen" placeholder:"HOST:PORT" help:"Address to serve the sandbox on over gRPC as well, without TLS, such as ${sandbox_grpc} (none)."`
	sandboxFlags

	PublicURL      string          `name:"public-url" placeholder:"URL" help:"URL of the gateway for its clients, such as https://api.example.com, as the API documentation shows it (none)."`
	CORSOrigin     []origin        `name:"cors-origin" placeholder:"ORIGIN" help:"Origin whose pages may call the API from a browser, such as https://app.example.com; repeatable (none)."`
	RateLimitRead  policy.Rate     `default:"600/1m" placeholder:"N/PERIOD" help:"Read requests allowed per API key; 0 disables the limit. A client address is allowed four times as many (${default})."`
	RateLimitWrite policy.Rate     `default:"120/1m" placeholder:"N/PERIOD" help:"Write requests allowed per API key; 0 disables the limit. A client address is allowed four times as many (${default})."`
	MaxStreams     int             `default:"5000" placeholder:"N" help:"Maximum number of open streams (${default})."`
	MaxKeyStreams  int             `default:"100" placeholder:"N" help:"Maximum number of open streams per API key (${default})."`
	MaxBodyBytes   int64           `default:"1048576" placeholder:"BYTES" help:"Maximum size of a request body, in bytes (${default})."`
	MaxInflight    int64           `name:"max-inflight-bytes" default:"268435456" placeholder:"BYTES" help:"Memory for the request bodies and responses in flight, in bytes; those of one API key may take a quarter of it. Calls that do not fit are rejected with 503 (${default})."`
	Store          stores.Location `default:"memory" placeholder:"memory|file:PATH|postgres://…" help:"Where to keep what is known of writes with an Idempotency-Key, and stream tickets. Memory is forgotten when the gateway ends, a file is for one gateway, and PostgreSQL for several (${default})."`
	Idempotency    string          `enum:"optional,required" default:"optional" placeholder:"optional|required" help:"Whether writes need an Idempotency-Key (${default})."`
	RequestTimeout time.Duration   `default:"30s" placeholder:"DURATION" help:"Maximum duration of a call; streams are not limited (${default})."`
	DrainDelay     *time.Duration  `placeholder:"DURATION" help:"How long to keep serving after SIGTERM, with /readyz at 503, so that load balancers stop sending requests (5s; 0s with --sandbox)."`
	TrustedProxy   []trustedProxy  `placeholder:"CIDR" help:"Address or network of a proxy whose X-Forwarded-For header is trusted, such as 10.0.0.0/8; repeatable (none)."`
	Credentials    string          `placeholder:"auto|PATH" help:"Mesh credentials file. Its API key and group are added to requests that carry none, so --listen must be a loopback address. With auto, the file that the Mesh SDKs use (none)."`
}

const defaultAdminListen = "127.0.0.1:9090"

// Help follows the summary in the command's help.
func (*serveCommand) Help() string { return aboutFlags }

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
		return errors.New("--sandbox and --upstream cannot be used together")
	case c.Sandbox && c.UpstreamPlaintext:
		return errors.New("--sandbox and --upstream-plaintext cannot be used together")
	case c.Sandbox && c.Credentials != "":
		return errors.New("--sandbox and --credentials cannot be used together: the sandbox has test keys of its own, and does not take yours")
	case !c.Sandbox && (c.SandboxGRPCListen != "" || c.set()):
		return errors.New("--sandbox-grpc-listen, --sandbox-seed, --sandbox-clock and --sandbox-file need --sandbox")
	case c.UpstreamPlaintext && c.Upstream == "":
		return errors.New("--upstream-plaintext needs --upstream: API keys must not be sent to the production API without TLS")
	case c.deployment().Validate() != nil:
		return &usageError{"public-url", c.deployment().Validate()}
	case c.upstreamConnections() < 1 || c.upstreamConnections() > upstream.MaxConnections:
		return fmt.Errorf("--upstream-connections must be from 1 to %d, not %d", upstream.MaxConnections, c.upstreamConnections())
	case c.MaxStreams < 1:
		return fmt.Errorf("--max-streams must be at least 1, not %d", c.MaxStreams)
	case c.MaxKeyStreams < 1:
		return fmt.Errorf("--max-key-streams must be at least 1, not %d", c.MaxKeyStreams)
	case c.MaxBodyBytes < 1:
		return fmt.Errorf("--max-body-bytes must be at least 1, not %d", c.MaxBodyBytes)
	case c.MaxInflight < budget.MinLimit:
		return fmt.Errorf("--max-inflight-bytes must be at least %d, not %d", budget.MinLimit, c.MaxInflight)
	case c.RequestTimeout <= 0:
		return fmt.Errorf("--request-timeout must be more than 0s, not %s", c.RequestTimeout)
	case c.drainDelay() < 0 || c.drainDelay() >= server.ShutdownTimeout:
		return fmt.Errorf("--drain-delay must be at least 0s and less than %s, the time limit for shutting down, not %s", server.ShutdownTimeout, c.drainDelay())
	}
	for _, address := range []struct{ flag, value string }{{"listen", c.Listen}, {"admin-listen", c.adminListen()}, {"upstream", c.Upstream}, {"sandbox-grpc-listen", c.SandboxGRPCListen}} {
		if address.value == "" {
			continue
		}
		if err := checkAddress(address.flag, address.value); err != nil {
			return err
		}
	}
	if c.Credentials != "" && !loopback(c.listen()) {
		return &usageError{"listen", fmt.Errorf("%s is not a loopback address, so others could use your key; with --credentials pass one such as 127.0.0.1:8080", c.Listen)}
	}
	return nil
}

// listen is the address to serve on. A gateway that adds a key of its own, or
// whose test keys are public, is not reachable from other machines unless told so.
func (c *serveCommand) listen() string {
	if c.Listen == "" && (c.Sandbox || c.Credentials != "") {
		return "127.0.0.1:8080"
	}
	return cmp.Or(c.Listen, ":8080")
}

// adminListen is the admin address, or empty if there is to be none.
func (c *serveCommand) adminListen() string {
	if c.AdminListen == nil {
		return defaultAdminListen
	}
	return *c.AdminListen
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

// upstreamConnections is the number of connections to Mesh. That to the sandbox, which is in the same
// process, is not lost.
func (c *serveCommand) upstreamConnections() int {
	switch {
	case c.UpstreamConnections != nil:
		return *c.UpstreamConnections
	case c.Sandbox:
		return 1
	}
	return upstream.DefaultConnections
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
	log := telemetry.NewLogWriter(std.err)
	defer func() { err = errors.Join(err, log.Close()) }()
	logger := slog.New(slog.NewJSONHandler(log, nil))
	s := newServer(ctx, std.err, logger, c.drainDelay())
	options := server.Options{
		Version:        buildVersion(),
		ReadRate:       c.RateLimitRead,
		WriteRate:      c.RateLimitWrite,
		Streams:        policy.StreamLimits{PerKey: c.MaxKeyStreams, All: c.MaxStreams},
		PublicURL:      c.PublicURL,
		MaxBodyBytes:   c.MaxBodyBytes,
		Budget:         budget.New(budget.Options{Limit: c.MaxInflight, MaxReply: upstream.MaxReplyBytes}),
		RequestTimeout: c.RequestTimeout,

		RequireIdempotencyKey: c.Idempotency == "required",
		Stopping:              s.Stopping(),
		Drain:                 s.Draining(),
		Metrics:               telemetry.New(buildVersion()),
		Logger:                logger,
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
		if options.Sandbox, err = c.open(logger); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, options.Sandbox.Close()) }()
	}
	store, warnings, err := c.Store.Open(ctx)
	if err != nil {
		return fmt.Errorf("--store: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	options.Keeper, options.Tickets = idempotency.NewKeeper(store, logger), middleware.NewSealedTickets(store)
	if memory, ok := store.(*memstore.Store); ok {
		// What the answers in the store are about is gone after a reset of the sandbox. A store
		// outside the program may have the keys of other gateways.
		options.OnReset = memory.Forget
	}
	defer runUntil(options.Keeper.Run)()
	conn, err := c.connect(options.Sandbox)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	options.Conn, options.Ready = conn, conn.WaitUntilReady
	options.Metrics.RegisterPool(telemetry.Pool{Connections: conn.Connections, InFlight: conn.InFlight})
	if options.Sandbox != nil {
		options.Conn = sandbox.Isolate(conn, func() (sandbox.Conn, error) { return c.connect(options.Sandbox) })
	}

	defer func() { err = errors.Join(err, s.Close()) }()
	var at addresses
	// Before the routes, because the guide says where it is.
	if c.SandboxGRPCListen != "" {
		if at.grpc, err = s.ListenService(c.SandboxGRPCListen, options.Sandbox.NewServer()); err != nil {
			return listenError("sandbox-grpc-listen", c.SandboxGRPCListen, err)
		}
		options.SandboxGRPC = reachable(at.grpc)
	}
	routes, err := server.Routes(options)
	if err != nil {
		return err
	}
	if at.api, err = s.Listen(c.listen(), routes); err != nil {
		return listenError("listen", c.listen(), err)
	}
	if c.adminListen() != "" {
		if at.admin, at.adminMoved, err = c.serveAdmin(s, c.adminListen(), server.AdminRoutes(options)); err != nil {
			return err
		}
	}
	// Not before, so that the garbage of the start is collected early.
	defer tuneMemory(os.LookupEnv, memlimit.FromCgroup, c.MaxInflight, logger)()
	c.announce(std.out, at, options.Credentials)
	if c.Store.Memory() && !c.Sandbox {
		warnings = append(warnings, "the idempotency keys of writes are kept in memory and forgotten when the gateway ends; set --store to keep them")
	}
	for _, warning := range warnings {
		logger.Warn(warning)
	}
	conn.Connect()
	go debug.FreeOSMemory() // the start takes more than the program needs at rest
	return s.Run(ctx)
}

// runUntil runs f until the function that it returns is called, which waits for it.
func runUntil(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// serveAdmin opens the admin listener. A second sandbox on a machine must not
// fail because of a listener that nobody asked for: if the address is the default
// and in use, it gets a free port, and moved is true.
func (c *serveCommand) serveAdmin(s *server.Server, at string, routes http.Handler) (address net.Addr, moved bool, err error) {
	address, err = s.ListenAdmin(at, routes)
	if inUse(err) && c.Sandbox && c.AdminListen == nil {
		address, err = s.ListenAdmin("127.0.0.1:0", routes)
		return address, true, err
	}
	return address, false, listenError("admin-listen", at, err)
}

// connect returns the connections to the Mesh to front. This is the one place
// where live and sandbox differ: in how the connection is made.
func (c *serveCommand) connect(mesh *sandbox.Sandbox) (*upstream.Pool, error) {
	options := upstream.Options{
		Plaintext:   c.UpstreamPlaintext,
		UserAgent:   "mesh-gateway/" + buildVersion(),
		Connections: c.upstreamConnections(),
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

// addresses are where a gateway listens. admin and grpc may be nil.
type addresses struct {
	api, admin, grpc net.Addr
	// adminMoved is set if admin is a free port because the default is in use.
	adminMoved bool
}

// announce prints where the gateway can be reached and a first request to try.
func (c *serveCommand) announce(out io.Writer, at addresses, own *credentials.Credentials) {
	var b strings.Builder
	base := browsable(at.api)
	fmt.Fprintf(&b, "Mesh API   %s/v1\nDocs       %s/docs\n", base, base)
	switch {
	case at.adminMoved:
		fmt.Fprintf(&b, "Admin      %s  (a free port, because %s is in use)\n", browsable(at.admin), defaultAdminListen)
	case at.admin != nil:
		fmt.Fprintf(&b, "Admin      %s\n", browsable(at.admin))
	}
	if at.grpc != nil {
		fmt.Fprintf(&b, "gRPC       %s, without TLS\n", at.grpc)
	}
	if c.Sandbox {
		first := sandbox.Seeded()[0]
		fmt.Fprintf(&b, "Upstream   built-in sandbox; all data is test data\nKey        %s\nGroup      %s\n\nTry:\n\n  curl %s/v1/iam/api_users \\\n    -H 'X-Api-Key: %s' \\\n    -H 'X-Group: %s'\n\n",
			first.APIKey, first.Group, base, first.APIKey, first.Group)
	} else {
		fmt.Fprintf(&b, "Upstream   %s\n", cmp.Or(c.Upstream, upstream.DefaultTarget))
	}
	if own != nil {
		fmt.Fprintf(&b, "Key        from %s, for requests that carry none\nGroup      %s\n\nTry:\n\n  curl %s/v1/iam/api_users\n\n", own.Path, own.Group, base)
	}
	_, _ = io.WriteString(out, b.String())
}

// browsable is the URL of a listener as it can be opened on this machine.
func browsable(address net.Addr) string { return "http://" + reachable(address) }

// reachable is the HOST:PORT of a listener as it can be dialled on this machine.
func reachable(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
