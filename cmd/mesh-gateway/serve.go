package main

import (
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

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/alecthomas/kong"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/internal/admission"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/health"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/tracing/otlp"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
)

type serveCommand struct {
	Config config.Config `embed:""`
}

// Help follows the summary in the command's help.
func (*serveCommand) Help() string { return aboutFlags }

// Run serves until ctx is done and calls in flight have finished.
func (c *serveCommand) Run(ctx context.Context, parsed *kong.Context, std streams) (err error) {
	log := telemetry.NewLogWriter(std.err)
	defer func() { err = errors.Join(err, log.Close()) }()
	level := new(slog.LevelVar)
	level.Set(c.Config.Telemetry.Level())
	logger := slog.New(telemetry.NewHandler(log, std.err, telemetry.LogFormat(c.Config.Telemetry.LogFormat), level, os.Getenv))
	metrics := telemetry.New(buildVersion())
	metrics.RegisterLog(log)
	traces, err := otlp.FromEnvironment(ctx, os.Getenv, buildVersion(), logger)
	if err != nil {
		return err
	}
	if traces != nil {
		defer traces.Close()
		metrics.RegisterTraces(traces.Exported, traces.Failed)
	}
	auditLog, closeAudit, err := openAudit(&c.Config, std, metrics, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAudit()) }()
	s := newServer(ctx, std.err, logger, c.Config.Server.DrainDelay)
	options := server.Options{
		Version:   buildVersion(),
		PublicURL: c.Config.Server.PublicURL,
		Live:      live(&c.Config),
		Budget:    budget.New(budget.Options{Limit: c.Config.Limits.MaxInflightBytes, MaxReply: upstream.MaxReplyBytes}),
		Access:    new(access.Current),

		RequireIdempotencyKey: c.Config.Idempotency.Keys == "required",
		Stopping:              s.Stopping(),
		Drain:                 s.Draining(),
		Metrics:               metrics,
		Tracer:                traces.Tracer(),
		Audit:                 auditLog,
		Logger:                logger,
	}
	if c.Config.Limits.Admission == config.AdmissionAdaptive {
		options.Admission = admission.New(contract.Methods())
	}
	rules, err := c.Config.Access.Rules()
	if err != nil {
		return c.Config.Problem("key-rule", err)
	}
	options.Access.Set(rules)
	if options.Credentials, err = findCredentials(&c.Config); err != nil {
		return err
	}
	if options.Credentials != nil && options.Credentials.Warning != "" {
		fmt.Fprintln(std.err, "warning:", options.Credentials.Warning)
	}

	connections := c.connections(options, logger)
	s.LimitConnections(connections)
	var shared *ratelimit.Redis
	if !c.Config.Redis.URL.IsZero() {
		if shared, err = ratelimit.NewRedis(c.Config.Redis.URL, c.Config.Redis.Unavailable, logger); err != nil {
			return config.Problems{c.Config.Problem("redis", err)}
		}
		defer func() { err = errors.Join(err, shared.Close()) }()
		options.Limiter = ratelimit.NewLimiter(shared)
		options.Metrics.RegisterRedis(shared.Up, shared.Uncounted)
	}

	certificates, err := openCertificates(&c.Config, logger)
	if err != nil {
		return err
	}
	certificates.register(options.Metrics)
	defer runUntil(certificates.watch)()
	s.SetTransport(certificates.transport(c.Config.TLS.H2C, options.Metrics))

	if c.Config.Sandbox.Enabled {
		if options.Sandbox, err = openSandbox(c.Config.Sandbox.World, logger); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, options.Sandbox.Close()) }()
	}
	store, err := c.Config.Idempotency.Store.Start(ctx, func(warning string) { logger.Warn(warning) })
	if err != nil {
		return c.Config.Problem("store", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	measured := metrics.Store(store)
	options.Keeper, options.Tickets = idempotency.NewKeeper(measured, logger), middleware.NewSealedTickets(measured)
	if memory, ok := store.(*memstore.Store); ok {
		// What the answers in the store are about is gone after a reset of the sandbox. A store
		// outside the program may have the keys of other gateways.
		options.OnReset = memory.Forget
	}
	defer runUntil(options.Keeper.Run)()
	conn, err := c.connect(options.Sandbox, certificates)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	options.Conn = conn
	asked := upstream.NewHealth(conn)
	defer runUntil(asked.Run)()
	checks := readinessChecks(conn, asked, store)
	if shared != nil {
		checks = append(checks, redisCheck(shared, c.Config.Redis.Unavailable))
	}
	if auditLog != nil {
		checks = append(checks, auditCheck(auditLog))
	}
	options.Health = health.New(logger, checks...)
	metrics.RegisterPool(telemetry.Pool{
		Connections: conn.Connections, InFlight: conn.InFlight, Retired: conn.Retired,
		Retries: conn.Retries, RefusedRetries: conn.RefusedRetries, Waits: conn.Waits, Probes: conn.Probes, Left: conn.Left,
	})
	if options.Sandbox != nil {
		options.Conn = sandbox.Isolate(conn, func() (sandbox.Conn, error) { return c.connect(options.Sandbox, certificates) })
	}

	defer func() { err = errors.Join(err, s.Close()) }()
	var at addresses
	// Before the routes, because the guide says where it is.
	if c.Config.Sandbox.GRPCListen != "" {
		if at.grpc, err = s.ListenService(c.Config.Sandbox.GRPCListen, options.Sandbox.NewServer()); err != nil {
			return c.listenProblem("sandbox-grpc-listen", c.Config.Sandbox.GRPCListen, err)
		}
		options.SandboxGRPC = reachable(at.grpc)
	}
	routes, err := server.Routes(options)
	if err != nil {
		return err
	}
	if at.api, err = s.Listen(c.Config.Server.Listen, routes); err != nil {
		return c.listenProblem("listen", c.Config.Server.Listen, err)
	}
	if c.Config.Telemetry.FlightRecorder && c.Config.Server.AdminListen != "" {
		flight, err := telemetry.StartFlight()
		if err != nil {
			return err
		}
		defer flight.Stop()
		options.Flight = flight
	}
	if c.Config.Server.AdminListen != "" {
		if at.admin, at.adminMoved, err = c.serveAdmin(s, c.Config.Server.AdminListen, server.AdminRoutes(options)); err != nil {
			return err
		}
	}
	reloads := &reloader{
		started: &c.Config, running: &c.Config, logger: logger, metrics: options.Metrics.RegisterReloads(),
		parse: func() (*config.Config, error) { return parseConfig(parsed.Args) },
		prepare: []preparation{
			func(new *config.Config) (func(), error) { return routes.Prepare(live(new)) },
			func(new *config.Config) (func(), error) {
				return func() { connections.SetLimits(connectionLimits(new)) }, nil
			},
			func(new *config.Config) (func(), error) {
				rules, err := new.Access.Rules()
				return func() { options.Access.Set(rules) }, err
			},
			func(new *config.Config) (func(), error) { return func() { level.Set(new.Telemetry.Level()) }, nil },
			// The last, because certificates are used once they are read.
			func(*config.Config) (func(), error) { return func() {}, certificates.Reload() },
		},
	}
	defer reloads.start()()
	// Not before, so that the garbage of the start is collected early.
	defer tuneMemory(os.LookupEnv, memlimit.FromCgroup, c.Config.Limits.MaxInflightBytes, logger)()
	at.fingerprint = certificates.fingerprint()
	c.announce(std.out, at, options.Credentials)
	if c.Config.Idempotency.Store.Memory() && !c.Config.Sandbox.Enabled {
		logger.Warn("the idempotency keys of writes are kept in memory and forgotten when the gateway ends; set --store to keep them")
	}
	conn.Connect()
	defer runUntil(func(ctx context.Context) { conn.Watch(ctx, reportReachability(logger, c.upstreamTarget())) })()
	go debug.FreeOSMemory() // the start takes more than the program needs at rest
	return s.Run(ctx)
}

// connections returns the limits of the connections of clients, and adds their metrics.
func (c *serveCommand) connections(o server.Options, logger *slog.Logger) *server.Connections {
	connections := server.NewConnections(connectionLimits(&c.Config), logger)
	o.Metrics.RegisterConnections(telemetry.Connections{
		Open: connections.Open, RefusedByTotal: connections.RefusedByAll, RefusedByAddress: connections.RefusedByAddress,
	})
	return connections
}

// listenProblem returns the error of an address that cannot be listened on, or nil.
func (c *serveCommand) listenProblem(setting, address string, err error) error {
	if err == nil {
		return nil
	}
	return c.Config.Problem(setting, listenError(setting, address, err))
}

// findCredentials returns the credentials for requests that carry none, or nil.
func findCredentials(c *config.Config) (*credentials.Credentials, error) {
	if c.Upstream.Credentials == "" {
		return nil, nil
	}
	found, err := credentials.Find(c.Upstream.Credentials, os.Getenv)
	if err != nil {
		return nil, config.Problems{c.Problem("credentials", err)}
	}
	return &found, nil
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
	if inUse(err) && c.Config.Sandbox.Enabled && !c.Config.Given("admin-listen") {
		address, err = s.ListenAdmin("127.0.0.1:0", routes)
		return address, true, err
	}
	return address, false, c.listenProblem("admin-listen", at, err)
}

// connect returns the connections to the Mesh to front. This is the one place
// where live and sandbox differ: in how the connection is made.
func (c *serveCommand) connect(mesh *sandbox.Sandbox, certificates certificateSources) (*upstream.Pool, error) {
	options := upstream.Options{
		Plaintext:   c.Config.Upstream.Plaintext,
		TLS:         certificates.upstreamConfig(),
		UserAgent:   "mesh-gateway/" + buildVersion(),
		Connections: c.Config.Upstream.Connections,
	}
	if mesh != nil {
		options.Plaintext, options.Dialer = true, mesh.DialContext
	}
	conn, err := upstream.Dial(c.upstreamTarget(), options)
	if err != nil {
		return nil, config.Problems{c.Config.Problem("upstream", err)}
	}
	return conn, nil
}

// upstreamTarget is the address of the Mesh to front. That of the sandbox is only a name.
func (c *serveCommand) upstreamTarget() string {
	if c.Config.Sandbox.Enabled {
		return "sandbox:1"
	}
	return c.Config.Upstream.Target
}

// addresses are where a gateway listens. admin and grpc may be nil.
type addresses struct {
	api, admin, grpc net.Addr
	// adminMoved is set if admin is a free port because the default is in use.
	adminMoved bool
	// fingerprint is that of the certificate that clients are shown, or empty without TLS.
	fingerprint string
}

// announce prints where the gateway can be reached and a first request to try.
func (c *serveCommand) announce(out io.Writer, at addresses, own *credentials.Credentials) {
	var b strings.Builder
	base, curl := "http://"+reachable(at.api), "curl"
	if c.Config.TLS.Enabled() {
		base = "https://" + reachable(at.api)
	}
	fmt.Fprintf(&b, "Mesh API   %s/v1\nDocs       %s/docs\n", base, base)
	if c.Config.TLS.SelfSigned {
		curl = "curl -k"
		fmt.Fprintf(&b, "TLS        a self-signed certificate; clients must accept it, as curl does with -k\n           SHA-256 %s\n", at.fingerprint)
	}
	switch {
	case at.adminMoved:
		fmt.Fprintf(&b, "Admin      http://%s  (a free port, because %s is in use)\n", reachable(at.admin), config.DefaultAdminListen)
	case at.admin != nil:
		fmt.Fprintf(&b, "Admin      http://%s\n", reachable(at.admin))
	}
	if at.grpc != nil {
		fmt.Fprintf(&b, "gRPC       %s, without TLS\n", at.grpc)
	}
	if c.Config.Sandbox.Enabled {
		first := sandbox.Seeded()[0]
		fmt.Fprintf(&b, "Upstream   built-in sandbox; all data is test data\nKey        %s\nGroup      %s\n\nTry:\n\n  %s %s/v1/iam/api_users \\\n    -H 'X-Api-Key: %s' \\\n    -H 'X-Group: %s'\n\n",
			first.APIKey, first.Group, curl, base, first.APIKey, first.Group)
	} else {
		fmt.Fprintf(&b, "Upstream   %s\n", c.Config.Upstream.Target)
	}
	if own != nil {
		fmt.Fprintf(&b, "Key        from %s, for requests that carry none\nGroup      %s\n\nTry:\n\n  %s %s/v1/iam/api_users\n\n", own.Path, own.Group, curl, base)
	}
	_, _ = io.WriteString(out, b.String())
}

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
