package e2e

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
)

// faultyMesh is an upstream that has CreateAPIUser alone. It records each call, and delays, refuses,
// fails or drops some of them: which depends on the seed and on the display name, which is the
// Idempotency-Key of the write.
type faultyMesh struct {
	apiuserv1.UnimplementedAPIUserServiceServer

	target string
	seed   uint64
	// every is the number of calls from one that is held for a fault to the next.
	every int
	// held receives the calls that are held, until quiet is closed.
	held  chan heldCall
	quiet chan struct{}

	mu    sync.Mutex
	conns map[string]net.Conn // by the address of the client
	count int
	calls map[string][]*meshCall // by key
}

// meshCall is a call that arrived.
type meshCall struct {
	requestID string // X-Request-Id of the HTTP request that it was made for
	// name is the API user that was created, or "" if the call was not carried out.
	name    string
	refused bool
}

// heldCall is a call that is in flight until proceed is called.
type heldCall struct {
	requestID string
	proceed   func()
}

// startFaultyMesh starts an upstream that is stopped at the end of the test.
func startFaultyMesh(t *testing.T, seed uint64, every int) *faultyMesh {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &faultyMesh{
		target: listener.Addr().String(), seed: seed, every: every,
		held: make(chan heldCall), quiet: make(chan struct{}),
		conns: make(map[string]net.Conn), calls: make(map[string][]*meshCall),
	}
	server := grpc.NewServer()
	apiuserv1.RegisterAPIUserServiceServer(server, m)
	done := make(chan error, 1)
	go func() { done <- server.Serve(&recordedListener{listener, m}) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m
}

// recordedListener records its connections, so that they can be dropped.
type recordedListener struct {
	net.Listener
	mesh *faultyMesh
}

func (l *recordedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.mesh.mu.Lock()
		l.mesh.conns[conn.RemoteAddr().String()] = conn
		l.mesh.mu.Unlock()
	}
	return conn, err
}

// drop closes the connection of a call, and with it ends the other calls on that connection.
func (m *faultyMesh) drop(ctx context.Context) error {
	if from, ok := peer.FromContext(ctx); ok {
		m.mu.Lock()
		conn := m.conns[from.Addr.String()]
		delete(m.conns, from.Addr.String())
		m.mu.Unlock()
		if conn != nil {
			_ = conn.Close()
		}
	}
	return status.Error(codes.Unavailable, "the connection was dropped")
}

// CreateAPIUser implements the service.
func (m *faultyMesh) CreateAPIUser(ctx context.Context, request *apiuserv1.CreateAPIUserRequest) (*apiuserv1.APIUser, error) {
	key := request.GetApiUser().GetDisplayName()
	call := new(meshCall)
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("x-request-id")) == 1 {
		call.requestID = md.Get("x-request-id")[0]
	}
	m.mu.Lock()
	m.count++
	number := m.count
	m.calls[key] = append(m.calls[key], call)
	m.mu.Unlock()
	if number%m.every == 0 {
		m.hold(ctx, call.requestID)
	}

	hash := fnv.New64a()
	_, _ = hash.Write([]byte(key))
	random := rand.New(rand.NewPCG(m.seed, hash.Sum64()))
	created := func() *apiuserv1.APIUser {
		user := &apiuserv1.APIUser{
			Name: fmt.Sprintf("iam/api_users/%026d", number), Owner: request.GetApiUser().GetOwner(), DisplayName: key,
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		call.name = user.GetName()
		return user
	}
	wait(ctx, time.Duration(random.IntN(20))*time.Millisecond)
	switch chance := random.IntN(100); {
	case chance < 74:
		return created(), nil
	case chance < 80:
		m.mu.Lock()
		defer m.mu.Unlock()
		call.refused = true
		return nil, status.Error(codes.FailedPrecondition, "the group is full")
	case chance < 83: // it takes longer
		wait(ctx, 200*time.Millisecond)
		return created(), nil
	case chance < 86: // a failure in the middle
		created()
		return nil, status.Error(codes.Internal, "panic")
	case chance < 89: // a proxy without an answer
		return nil, status.Error(codes.Unavailable, "upstream connect error")
	case chance < 91: // the answer is lost
		created()
		return nil, m.drop(ctx)
	case chance < 93: // the request is lost
		return nil, m.drop(ctx)
	case chance < 96: // it takes much longer
		wait(ctx, 500*time.Millisecond)
		return created(), nil
	default: // the answer comes too late
		<-ctx.Done()
		return created(), nil
	}
}

// hold keeps a call in flight until a fault has happened.
func (m *faultyMesh) hold(ctx context.Context, requestID string) {
	happened := make(chan struct{})
	select {
	case m.held <- heldCall{requestID, sync.OnceFunc(func() { close(happened) })}:
	case <-m.quiet:
		return
	case <-ctx.Done():
		// Its gateway is gone, or an earlier fault takes longer than the call may.
		return
	}
	select {
	case <-happened:
	case <-ctx.Done():
	}
}

// wait waits for the delay, or less if the context ends.
func wait(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
