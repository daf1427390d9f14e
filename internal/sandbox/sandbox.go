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
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
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
	server *grpc.Server
	conn   *grpc.ClientConn
	done   chan error
	close  func() error
}

// Option sets how a sandbox behaves.
type Option func(*options)

type options struct {
	now      func() time.Time
	random   io.Reader
	capacity int
}

// WithClock sets what the sandbox takes for the time.
func WithClock(now func() time.Time) Option {
	return func(o *options) { o.now = now }
}

// WithSeed makes names and keys follow from the seed, so that the same calls
// give the same answers. Without it they are random.
func WithSeed(seed uint64) Option {
	return func(o *options) {
		var key [32]byte
		for i := range 8 {
			key[i] = byte(seed >> (8 * i))
		}
		o.random = mathrand.NewChaCha8(key)
	}
}

// WithCapacity sets how many resources of a kind the sandbox holds. Without it
// there is room for a hundred thousand.
func WithCapacity(resources int) Option {
	return func(o *options) { o.capacity = resources }
}

// New starts a sandbox with its seed data.
func New(opts ...Option) (*Sandbox, error) {
	o := options{now: time.Now, random: rand.Reader, capacity: maxResources}
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
	s := &Sandbox{server: server, conn: conn, done: make(chan error, 1)}
	s.close = sync.OnceValue(s.stop)
	go func() { s.done <- server.Serve(listener) }()
	return s, nil
}

// Conn is the connection to the sandbox. It is closed by Close.
func (s *Sandbox) Conn() *grpc.ClientConn { return s.conn }

// Close ends the sandbox and forgets its state. Closing again is harmless.
func (s *Sandbox) Close() error { return s.close() }

func (s *Sandbox) stop() error {
	err := s.conn.Close()
	s.server.Stop()
	// A sandbox closed before its server came to serve was stopped all the same.
	if served := <-s.done; !errors.Is(served, grpc.ErrServerStopped) {
		err = errors.Join(err, served)
	}
	return err
}

// register is the one list of what the sandbox serves. A service that is still
// to come answers UNIMPLEMENTED, behind the same checks as the others.
func register(server *grpc.Server, mesh *store) {
	apiuserv1.RegisterAPIUserServiceServer(server, &apiUsers{store: mesh})
	groupv1.RegisterGroupServiceServer(server, &groups{store: mesh})
	userv1.RegisterUserServiceServer(server, &users{store: mesh})
	userprofilev1.RegisterUserProfileServiceServer(server, &userProfiles{store: mesh})

	clientv1.RegisterClientServiceServer(server, clientv1.UnimplementedClientServiceServer{})
	accountv1.RegisterAccountServiceServer(server, accountv1.UnimplementedAccountServiceServer{})
	transferv1.RegisterTransferServiceServer(server, transferv1.UnimplementedTransferServiceServer{})
	transactionv1.RegisterTransactionServiceServer(server, transactionv1.UnimplementedTransactionServiceServer{})
	pricev1.RegisterPriceServiceServer(server, pricev1.UnimplementedPriceServiceServer{})
	limitorderv1.RegisterLimitOrderServiceServer(server, limitorderv1.UnimplementedLimitOrderServiceServer{})
	marketorderv1.RegisterMarketOrderServiceServer(server, marketorderv1.UnimplementedMarketOrderServiceServer{})
	accountreportv1.RegisterAccountReportServiceServer(server, accountreportv1.UnimplementedAccountReportServiceServer{})
	tokentapv1.RegisterTokenTapServiceServer(server, tokentapv1.UnimplementedTokenTapServiceServer{})
}
