package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// link is a network in memory to one upstream, for tests in a bubble of testing/synctest. It counts
// the calls by method.
type link struct {
	listener *bufconn.Listener

	mu    sync.Mutex
	mode  mode
	dials []time.Time
	ends  []*linkEnd // that are open
	calls map[string]int
}

// mode is what becomes of an attempt to connect.
type mode int

const (
	accept mode = iota
	refuse
	drop // it takes forever
)

// serveLink serves all methods with handle until the end of the test.
func serveLink(t *testing.T, handle func(ctx context.Context, method string, stream grpc.ServerStream) error, opts ...grpc.ServerOption) *link {
	t.Helper()
	l := &link{listener: bufconn.Listen(1 << 20), calls: make(map[string]int)}
	server := grpc.NewServer(append(opts, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(stream)
		l.mu.Lock()
		l.calls[method]++
		l.mu.Unlock()
		return handle(stream.Context(), method, stream)
	}))...)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l.listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return l
}

// answer answers a call with one message.
func answerOnce(_ context.Context, _ string, stream grpc.ServerStream) error {
	return stream.SendMsg(new(emptypb.Empty))
}

func (l *link) dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	l.dials = append(l.dials, time.Now())
	mode := l.mode
	l.mu.Unlock()
	switch mode {
	case refuse:
		return nil, errors.New("refused")
	case drop:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	conn, err := l.listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	end := &linkEnd{Conn: conn}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, end)
	return end, nil
}

// set sets what becomes of attempts to connect.
func (l *link) set(m mode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode = m
}

// lose closes all connections. Attempts to connect again end as the mode says.
func (l *link) lose(m mode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode = m
	for _, end := range l.ends {
		_ = end.Close()
	}
	l.ends = nil
}

// silence makes the connections silent that are open, except the first of them.
func (l *link) silence(except int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range l.ends[except:] {
		end.silent.Store(true)
	}
}

func (l *link) callsOf(method string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[method]
}

// dialTimes returns when attempts to connect began.
func (l *link) dialTimes() []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.dials)
}

// linkEnd is the client's end of a connection. While it is silent, nothing arrives on either side, and
// neither side notices.
type linkEnd struct {
	net.Conn
	silent atomic.Bool
}

func (e *linkEnd) Write(b []byte) (int, error) {
	if e.silent.Load() {
		return len(b), nil
	}
	return e.Conn.Write(b)
}

func (e *linkEnd) Read(b []byte) (int, error) {
	for {
		n, err := e.Conn.Read(b)
		if err != nil || !e.silent.Load() {
			return n, err
		}
	}
}

// connect returns a pool over the link whose connections are ready.
func connect(t *testing.T, l *link, connections int) *Pool {
	t.Helper()
	pool := dial(t, "mesh:1", Options{Plaintext: true, Connections: connections, Dialer: l.dial})
	pool.Connect()
	synctest.Wait()
	if got := pool.Connections(connectivity.Ready); got != connections {
		t.Fatalf("%d connections are ready, want %d", got, connections)
	}
	return pool
}

// result is how a call ended, and how long it took.
type result struct {
	err  error
	took time.Duration
}

// begin makes a call in the background.
func begin(t *testing.T, pool *Pool, method string, timeout time.Duration) <-chan result {
	t.Helper()
	ended := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		start := time.Now()
		err := pool.Invoke(ctx, method, new(emptypb.Empty), new(wrapperspb.BytesValue))
		ended <- result{err, time.Since(start)}
	}()
	return ended
}

// stayOpen answers a stream with a message, and keeps it open.
func stayOpen(ctx context.Context, method string, stream grpc.ServerStream) error {
	if err := stream.SendMsg(new(emptypb.Empty)); err != nil || method != streamMethod {
		return err
	}
	<-ctx.Done()
	return io.EOF
}
