// Package sandbox implements the Mesh API in memory, as a gRPC server that can be reached over a
// connection within the process or over the network. Its state is lost when it is closed, unless it
// has a file ([WithFile]).
//
// Each service has its own file. They share one store. access.go contains the checks that precede
// every call, in the order of the real service.
package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"

	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
	userprofilev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user_profile/v1"
	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	pricev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/market_data/price/v1"
	accountreportv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/reporting/account_report/v1"
	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	marketorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/market_order/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// DefaultListen is the address at which `mesh-gateway sandbox` serves gRPC by default.
const DefaultListen = "127.0.0.1:50051"

const (
	// bufferBytes is what either end may write ahead of the other.
	bufferBytes = 256 << 10
	// maxMessageBytes is the upstream's limit.
	maxMessageBytes = 64 << 20
)

// Sandbox is a running sandbox.
type Sandbox struct {
	mesh        *mesh
	guard       *guard
	descriptors protodesc.Resolver // of reflection
	server      *grpc.Server       // of the connection in the process
	memory      *bufconn.Listener
	conn        *IsolatedConn
	close       func() error
	// stopped ends the clock, and running waits for it.
	stopped chan struct{}
	running sync.WaitGroup
}

// Option configures a sandbox.
type Option func(*options)

type options struct {
	now    func() time.Time
	clock  Clock
	random func(seed, run uint64) io.Reader
	seed   uint64
	file   string
	noSync bool // of the file, for tests
	logger *slog.Logger
	// records and bytes bound each table.
	records, bytes int
}

// defaults returns the default options.
func defaults() options {
	return options{
		clock:   ClockReal,
		random:  func(uint64, uint64) io.Reader { return rand.Reader },
		seed:    mathrand.Uint64(), //nolint:gosec // prices follow from it and no secret does
		logger:  slog.New(slog.DiscardHandler),
		records: maxRecords,
		bytes:   maxBytes,
	}
}

// WithTime sets the source of timestamps. It does not affect how fast transactions and orders
// progress, which [WithClock] sets.
func WithTime(now func() time.Time) Option {
	return func(o *options) { o.now = now }
}

// WithClock sets the clock. The default is [ClockReal].
func WithClock(clock Clock) Option {
	return func(o *options) { o.clock = clock }
}

// WithSeed derives names, keys and prices from the seed, so that with [ClockManual] the same calls
// return the same responses. By default they are random.
func WithSeed(seed uint64) Option {
	return func(o *options) { o.seed, o.random = seed, newRandom }
}

// newRandom is a source that follows from the seed, another one each run.
func newRandom(seed, run uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], run)
	return mathrand.NewChaCha8(key)
}

// WithFile stores the state in a file, so that it survives restarts. The file is created if it does
// not exist. Only one sandbox can open it at a time. An existing file determines the seed.
func WithFile(path string) Option {
	return func(o *options) { o.file = path }
}

// WithCapacity sets the maximum number of resources of each kind. The default is 100,000.
func WithCapacity(resources int) Option {
	return func(o *options) { o.records = resources }
}

// WithLogger sets where faults of the sandbox are reported, such as a panic. By default they are not.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) { o.logger = logger }
}

// New starts a sandbox with its seed data.
func New(opts ...Option) (*Sandbox, error) {
	o := defaults()
	for _, opt := range opts {
		opt(&o)
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	descriptors, err := withOlderName(protoregistry.GlobalFiles)
	if err != nil {
		return nil, err
	}
	mesh, err := openMesh(o)
	if err != nil {
		return nil, err
	}

	guard := &guard{mesh: mesh, validator: validator}
	server := newServer(mesh, guard, descriptors)
	listener := bufconn.Listen(bufferBytes)
	// The target is never resolved; the name stands in errors.
	dial := func() (Conn, error) {
		return grpc.NewClient("passthrough:///sandbox",
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		)
	}
	conn, err := dial()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox: %w", err), listener.Close(), mesh.db.Close())
	}
	s := &Sandbox{mesh: mesh, guard: guard, descriptors: descriptors, server: server, memory: listener, conn: Isolate(conn, dial), stopped: make(chan struct{})}
	s.close = sync.OnceValue(s.stop)
	s.running.Go(func() { _ = server.Serve(droppable{listener}) }) // it ends when the server stops
	if interval := o.clock.interval(); interval > 0 {
		s.running.Go(func() { mesh.run(interval, s.stopped) })
	}
	return s, nil
}

// Conn returns the connection to the sandbox. Close closes it.
func (s *Sandbox) Conn() *IsolatedConn { return s.conn }

// Close stops the sandbox and discards its state, except that in a file. It may be called more than
// once.
func (s *Sandbox) Close() error { return s.close() }

func (s *Sandbox) stop() error {
	close(s.stopped)
	err := s.conn.Close()
	s.server.Stop()
	s.running.Wait()
	return errors.Join(err, s.mesh.db.Close())
}

// DialContext opens a connection to the sandbox within the process.
func (s *Sandbox) DialContext(ctx context.Context) (net.Conn, error) {
	return s.memory.DialContext(ctx)
}

// Advance advances the clock of a sandbox with [ClockManual] by d, rounded up to a multiple of 250
// ms. Other calls are answered meanwhile. It returns an error if d is not above 0 and at most
// [MaxAdvance].
func (s *Sandbox) Advance(d time.Duration) error {
	if d <= 0 || d > MaxAdvance {
		return fmt.Errorf("must be more than 0s and at most %s, not %s", MaxAdvance, d)
	}
	return s.mesh.advance(int((d + tick - 1) / tick))
}

// Reset restores the seed data. Open streams end with ABORTED.
func (s *Sandbox) Reset() error { return s.mesh.reset() }

// newServer returns a gRPC server of the store. Its options come first, so that
// interceptors among them see a call before all others.
func newServer(mesh *mesh, guard *guard, descriptors protodesc.Resolver, opts ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(append(opts,
		grpc.ChainUnaryInterceptor(mesh.recoverUnary, faultUnary, guard.unary),
		grpc.ChainStreamInterceptor(mesh.recoverStream, faultStream, guard.stream),
		grpc.MaxRecvMsgSize(maxMessageBytes),
	)...)
	register(server, mesh)
	registerTools(server, descriptors)
	return server
}

// register is the one list of what the sandbox serves.
func register(server grpc.ServiceRegistrar, mesh *mesh) {
	apiuserv1.RegisterAPIUserServiceServer(server, &apiUsers{mesh: mesh})
	registerOlderNames(server, &apiUsers{mesh: mesh})
	groupv1.RegisterGroupServiceServer(server, &groups{mesh: mesh})
	userv1.RegisterUserServiceServer(server, &users{mesh: mesh})
	userprofilev1.RegisterUserProfileServiceServer(server, &userProfiles{mesh: mesh})
	clientv1.RegisterClientServiceServer(server, &clients{mesh: mesh})
	accountv1.RegisterAccountServiceServer(server, &accounts{mesh: mesh})
	transferv1.RegisterTransferServiceServer(server, &transfers{mesh: mesh})
	transactionv1.RegisterTransactionServiceServer(server, &transactions{mesh: mesh})
	pricev1.RegisterPriceServiceServer(server, &prices{mesh: mesh})
	limitorderv1.RegisterLimitOrderServiceServer(server, &limitOrders{mesh: mesh})
	marketorderv1.RegisterMarketOrderServiceServer(server, &marketOrders{mesh: mesh})
	accountreportv1.RegisterAccountReportServiceServer(server, &accountReports{mesh: mesh})
	tokentapv1.RegisterTokenTapServiceServer(server, &tokenTaps{mesh: mesh})
}
