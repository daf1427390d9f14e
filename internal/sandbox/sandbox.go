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

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/proto"
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
	server *grpc.Server
	conn   *grpc.ClientConn
	done   chan error
	close  func() error
	// stopped ends the clock, and running waits for it.
	stopped chan struct{}
	running sync.WaitGroup
}

// Option sets how a sandbox behaves.
type Option func(*options)

type options struct {
	now      func() time.Time
	clock    Clock
	random   func() io.Reader
	seed     uint64
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
	return func(o *options) {
		var key [32]byte
		binary.LittleEndian.PutUint64(key[:], seed)
		o.seed, o.random = seed, func() io.Reader { return mathrand.NewChaCha8(key) }
	}
}

// WithCapacity sets how many resources of a kind the sandbox holds. Without it
// there is room for a hundred thousand.
func WithCapacity(resources int) Option {
	return func(o *options) { o.capacity = resources }
}

// New starts a sandbox with its seed data.
func New(opts ...Option) (*Sandbox, error) {
	o := options{clock: ClockReal, random: func() io.Reader { return rand.Reader }, seed: mathrand.Uint64(), capacity: maxResources}
	for _, opt := range opts {
		opt(&o)
	}
	methods, err := access.Methods(proto.Services())
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	mesh := newStore(o)
	if err := seed(mesh); err != nil {
		return nil, fmt.Errorf("sandbox: seed: %w", err)
	}

	guard := newGuard(mesh, methods, validator)
	server := grpc.NewServer(
		grpc.UnaryInterceptor(guard.unary),
		grpc.StreamInterceptor(guard.stream),
		grpc.MaxRecvMsgSize(maxMessageBytes),
	)
	register(server, mesh)

	listener := bufconn.Listen(bufferBytes)
	// The target is never resolved; the name stands in errors.
	conn, err := grpc.NewClient("passthrough:///sandbox",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox: %w", err), listener.Close())
	}
	s := &Sandbox{store: mesh, server: server, conn: conn, done: make(chan error, 1), stopped: make(chan struct{})}
	s.close = sync.OnceValue(s.stop)
	go func() { s.done <- server.Serve(listener) }()
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
	// A sandbox closed before its server came to serve was stopped all the same.
	if served := <-s.done; !errors.Is(served, grpc.ErrServerStopped) {
		err = errors.Join(err, served)
	}
	return err
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
	s.store.clear()
	return seed(s.store)
}

// register is the one list of what the sandbox serves.
func register(server grpc.ServiceRegistrar, mesh *store) {
	apiuserv1.RegisterAPIUserServiceServer(server, &apiUsers{store: mesh})
	groupv1.RegisterGroupServiceServer(server, &groups{store: mesh})
	userv1.RegisterUserServiceServer(server, &users{store: mesh})
	userprofilev1.RegisterUserProfileServiceServer(server, &userProfiles{store: mesh})
	clientv1.RegisterClientServiceServer(server, clientv1.UnimplementedClientServiceServer{})
	accountv1.RegisterAccountServiceServer(server, &accounts{store: mesh})
	transferv1.RegisterTransferServiceServer(server, &transfers{store: mesh})
	transactionv1.RegisterTransactionServiceServer(server, &transactions{store: mesh})
	pricev1.RegisterPriceServiceServer(server, &prices{store: mesh})
	limitorderv1.RegisterLimitOrderServiceServer(server, &limitOrders{store: mesh})
	marketorderv1.RegisterMarketOrderServiceServer(server, &marketOrders{store: mesh})
	accountreportv1.RegisterAccountReportServiceServer(server, &accountReports{store: mesh})
	tokentapv1.RegisterTokenTapServiceServer(server, &tokenTaps{store: mesh})
}
