// Package sandbox is an in-memory Mesh: a gRPC server that answers like the
// real one, over a connection that never leaves the process. Its state lives
// as long as it does.
//
// One file holds one service over the one store; access.go holds what every
// call passes first, in the order that the real service checks it.
package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

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

const (
	// bufferBytes is what either end may write ahead of the other.
	bufferBytes = 256 << 10
	// maxMessageBytes is the upstream's limit.
	maxMessageBytes = 64 << 20
)

// Sandbox is a running Mesh.
type Sandbox struct {
	store  *store
	guard  *guard
	server *grpc.Server // of the connection in the process
	memory *bufconn.Listener
	conn   *grpc.ClientConn
	close  func() error
	// stopped ends the clock, and running waits for it.
	stopped chan struct{}
	running sync.WaitGroup
}

// Option sets how a sandbox behaves.
type Option func(*options)

type options struct {
	now    func() time.Time
	clock  Clock
	random func(seed, run uint64) io.Reader
	seed   uint64
	// ticks have passed when the clock starts.
	ticks    uint64
	file     string
	capacity int
}

// WithTime sets what the sandbox takes for the time; how fast it passes is the
// clock's business.
func WithTime(now func() time.Time) Option {
	return func(o *options) { o.now = now }
}

// WithClock sets how time passes; it is real unless told otherwise.
func WithClock(clock Clock) Option {
	return func(o *options) { o.clock = clock }
}

// WithSeed makes names, keys and prices follow from the seed, so that with
// [ClockManual] the same calls give the same answers. Without it they are
// random.
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

// WithFile keeps the state in a file across restarts; it is made where there is
// none. One sandbox at a time can have it open. The seed of a file that exists
// is the one it was made with.
func WithFile(path string) Option {
	return func(o *options) { o.file = path }
}

// WithCapacity sets how many resources of a kind the sandbox holds. Without it
// there is room for a hundred thousand.
func WithCapacity(resources int) Option {
	return func(o *options) { o.capacity = resources }
}

// New starts a sandbox with its seed data.
func New(opts ...Option) (*Sandbox, error) {
	o := options{
		clock:    ClockReal,
		random:   func(uint64, uint64) io.Reader { return rand.Reader },
		seed:     mathrand.Uint64(), //nolint:gosec // prices follow from it and no secret does
		capacity: maxResources,
	}
	for _, opt := range opts {
		opt(&o)
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	mesh, err := openStore(o)
	if err != nil {
		return nil, err
	}

	guard := &guard{store: mesh, validator: validator}
	server := newServer(mesh, guard)
	listener := bufconn.Listen(bufferBytes)
	// The target is never resolved; the name stands in errors.
	conn, err := grpc.NewClient("passthrough:///sandbox",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox: %w", err), listener.Close(), mesh.close())
	}
	s := &Sandbox{store: mesh, guard: guard, server: server, memory: listener, conn: conn, stopped: make(chan struct{})}
	s.close = sync.OnceValue(s.stop)
	s.running.Go(func() { _ = server.Serve(droppable{listener}) }) // it ends when the server stops
	if interval := o.clock.interval(); interval > 0 {
		s.running.Go(func() { mesh.run(interval, s.stopped) })
	}
	return s, nil
}

// Conn is the connection to the sandbox. It is closed by Close.
func (s *Sandbox) Conn() *grpc.ClientConn { return s.conn }

// Close ends the sandbox and forgets its state. Closing again is harmless.
func (s *Sandbox) Close() error { return s.close() }

func (s *Sandbox) stop() error {
	close(s.stopped)
	err := s.conn.Close()
	s.server.Stop()
	s.running.Wait()
	return errors.Join(err, s.store.close())
}

// openStore returns the store as its file has it, or else as it is seeded.
func openStore(o options) (*store, error) {
	s := newStore(o)
	if o.file != "" {
		if known, err := s.openFile(o.file); known || err != nil {
			return s, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := seed(s); err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox: seed: %w", err), s.close())
	}
	return s, nil
}

// close lets go of the file.
func (s *store) close() error {
	if s.journal == nil {
		return nil
	}
	return errors.Join(s.journal.err, s.journal.db.Close())
}

// DialContext opens a connection to the sandbox that never leaves the process.
func (s *Sandbox) DialContext(ctx context.Context) (net.Conn, error) {
	return s.memory.DialContext(ctx)
}

// Advance lets time pass on a sandbox whose clock is [ClockManual]: one tick for
// each 250 ms of d, at most [MaxAdvance].
func (s *Sandbox) Advance(d time.Duration) error {
	if d <= 0 || d > MaxAdvance {
		return fmt.Errorf("sandbox: time cannot advance by %s; give more than 0 and at most %s", d, MaxAdvance)
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	for range (d + tick - 1) / tick {
		s.store.step()
	}
	return nil
}

// Reset takes the sandbox back to its seed data. Streams that are open end with
// ABORTED.
func (s *Sandbox) Reset() error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.watchers.end(status.Error(codes.Aborted, "The sandbox was reset."))
	s.store.options.ticks = 0
	s.store.clear()
	if s.store.journal != nil {
		clear(s.store.journal.changes)
		s.store.journal.wiped = true
	}
	return seed(s.store)
}

// newServer returns a gRPC server of the store. Its options come first, so that
// interceptors among them see a call before all others.
func newServer(mesh *store, guard *guard, opts ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(append(opts,
		grpc.ChainUnaryInterceptor(faultUnary, guard.unary),
		grpc.ChainStreamInterceptor(faultStream, guard.stream),
		grpc.MaxRecvMsgSize(maxMessageBytes),
	)...)
	register(server, mesh)
	registerTools(server)
	return server
}

// register is the one list of what the sandbox serves.
func register(server grpc.ServiceRegistrar, mesh *store) {
	apiuserv1.RegisterAPIUserServiceServer(server, &apiUsers{store: mesh})
	registerOlderNames(server, &apiUsers{store: mesh})
	groupv1.RegisterGroupServiceServer(server, &groups{store: mesh})
	userv1.RegisterUserServiceServer(server, &users{store: mesh})
	userprofilev1.RegisterUserProfileServiceServer(server, &userProfiles{store: mesh})
	clientv1.RegisterClientServiceServer(server, &clients{store: mesh})
	accountv1.RegisterAccountServiceServer(server, &accounts{store: mesh})
	transferv1.RegisterTransferServiceServer(server, &transfers{store: mesh})
	transactionv1.RegisterTransactionServiceServer(server, &transactions{store: mesh})
	pricev1.RegisterPriceServiceServer(server, &prices{store: mesh})
	limitorderv1.RegisterLimitOrderServiceServer(server, &limitOrders{store: mesh})
	marketorderv1.RegisterMarketOrderServiceServer(server, &marketOrders{store: mesh})
	accountreportv1.RegisterAccountReportServiceServer(server, &accountReports{store: mesh})
	tokentapv1.RegisterTokenTapServiceServer(server, &tokenTaps{store: mesh})
}
