package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// network is the network between a pool and a server. It can refuse connections and lose them.
type network struct {
	address string

	mu     sync.Mutex
	refuse bool
	// hang makes all connections but the first take forever.
	hang  bool
	conns []net.Conn
}

func (n *network) dial(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refuse {
		return nil, errors.New("refused")
	}
	if n.hang && len(n.conns) > 0 {
		n.mu.Unlock()
		<-ctx.Done()
		n.mu.Lock()
		return nil, ctx.Err()
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", n.address)
	if err == nil {
		n.conns = append(n.conns, conn)
	}
	return conn, err
}

func (n *network) setRefuse(refuse bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = refuse
}

// loseOne closes the connection that was opened first.
func (n *network) loseOne() {
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = n.conns[0].Close()
	n.conns = n.conns[1:]
}

// dialReady returns a pool whose connections are all ready, and the network that they use.
func dialReady(t testing.TB, s *server, connections int) (*Pool, *network) {
	t.Helper()
	n := &network{address: s.Addr().String()}
	pool := dial(t, "mesh:1", Options{Plaintext: true, Connections: connections, Dialer: n.dial})
	pool.Connect()
	waitFor(t, pool, connectivity.Ready, connections)
	return pool, n
}

// waitFor waits until a number of connections are in the state.
func waitFor(t testing.TB, pool *Pool, state connectivity.State, connections int) {
	t.Helper()
	eventually(t, func() error {
		if got := pool.Connections(state); got != connections {
			return fmt.Errorf("%d connections are %s, want %d", got, state, connections)
		}
		return nil
	})
}

// eventually waits for something that nobody reports.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// respond responds to every call with one message. Streams then stay open until their client ends
// them.
func respond(_ *server, stream grpc.ServerStream) error {
	if err := stream.SendMsg(new(emptypb.Empty)); err != nil {
		return err
	}
	if name, _ := grpc.MethodFromServerStream(stream); name == streamMethod {
		<-stream.Context().Done()
	}
	return nil
}

// openStream opens a stream and receives its first message.
func openStream(t *testing.T, ctx context.Context, pool *Pool) grpc.ClientStream {
	t.Helper()
	stream, err := pool.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, streamMethod)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stream.SendMsg(new(emptypb.Empty)), stream.CloseSend(), stream.RecvMsg(new(emptypb.Empty))); err != nil {
		t.Fatal(err)
	}
	return stream
}

// TestOpenStreamsAreBalanced opens streams over two connections, which are then both choices.
func TestOpenStreamsAreBalanced(t *testing.T) {
	s := serve(t, respond)
	pool, _ := dialReady(t, s, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	byConnection := make(map[string]int)
	for range 10 {
		var from peer.Peer
		stream, err := pool.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, streamMethod, grpc.Peer(&from))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(stream.SendMsg(new(emptypb.Empty)), stream.RecvMsg(new(emptypb.Empty))); err != nil {
			t.Fatal(err)
		}
		p, _ := peer.FromContext(stream.Context())
		byConnection[p.LocalAddr.String()]++
	}
	if len(byConnection) != 2 {
		t.Errorf("streams by connection: %v, want two connections", byConnection)
	}
	for address, streams := range byConnection {
		if streams != 5 {
			t.Errorf("%s has %d streams of 10, want 5", address, streams)
		}
	}
	if got := pool.InFlight(); got != 10 {
		t.Errorf("%d calls in flight, want 10", got)
	}
}

// TestPick gives each connection another number of calls. The busiest of four is never the better of
// two, and each of the others sometimes is.
func TestPick(t *testing.T) {
	pool, _ := dialReady(t, serve(t, respond), 4)
	for i, c := range *pool.conns.Load() {
		c.inFlight.Store(int64(i))
		defer c.inFlight.Store(0)
	}
	picked := make(map[*conn]int)
	for range 1000 {
		c, _ := pool.pick()
		picked[c]++
	}
	for i, c := range *pool.conns.Load() {
		if got, want := picked[c] > 0, i < 3; got != want {
			t.Errorf("the connection with %d calls was picked %d times of 1000", i, picked[c])
		}
	}
}

// TestACallCountsUntilItEnds brings calls to each of their ends. Each must give its place back once.
func TestACallCountsUntilItEnds(t *testing.T) {
	begin := func(t *testing.T, ctx context.Context, pool *Pool) grpc.ClientStream {
		t.Helper()
		stream := openStream(t, ctx, pool)
		if got := pool.InFlight(); got != 1 {
			t.Errorf("%d calls in flight while a stream is open, want 1", got)
		}
		return stream
	}
	receive := func(stream grpc.ClientStream) error {
		err := stream.RecvMsg(new(emptypb.Empty))
		_ = stream.RecvMsg(new(emptypb.Empty)) // once more after the end
		return err
	}
	for _, test := range []struct {
		name string
		call func(t *testing.T, pool *Pool, s *server) error
		want codes.Code
	}{
		{"unary call", func(t *testing.T, pool *Pool, _ *server) error {
			t.Helper()
			return invoke(t, pool, readMethod)
		}, codes.OK},
		{"unary call that the upstream refuses", func(t *testing.T, pool *Pool, _ *server) error {
			t.Helper()
			return invoke(t, pool, writeMethod)
		}, codes.NotFound},
		{"unary call whose deadline has passed", func(t *testing.T, pool *Pool, _ *server) error {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 0)
			defer cancel()
			return pool.Invoke(ctx, readMethod, new(emptypb.Empty), new(emptypb.Empty))
		}, codes.Unavailable},
		{"stream that its client ends", func(t *testing.T, pool *Pool, _ *server) error {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			stream := begin(t, ctx, pool)
			cancel()
			return receive(stream)
		}, codes.Canceled},
		{"stream that its client ends and does not read again", func(t *testing.T, pool *Pool, _ *server) error {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			begin(t, ctx, pool)
			cancel()
			return nil
		}, codes.OK},
		{"stream that the upstream ends", func(t *testing.T, pool *Pool, _ *server) error {
			t.Helper()
			ctx := metadata.AppendToOutgoingContext(t.Context(), "end", "OK")
			if err := receive(begin(t, ctx, pool)); !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}, codes.OK},
		{"stream that fails", func(t *testing.T, pool *Pool, _ *server) error {
			t.Helper()
			ctx := metadata.AppendToOutgoingContext(t.Context(), "end", "error")
			return receive(begin(t, ctx, pool))
		}, codes.Aborted},
		{"stream whose connection is lost", func(t *testing.T, pool *Pool, s *server) error {
			t.Helper()
			stream := begin(t, t.Context(), pool)
			s.closeConns()
			return receive(stream)
		}, codes.Unavailable},
		{"stream that cannot be opened", func(t *testing.T, pool *Pool, _ *server) error {
			t.Helper()
			ctx := metadata.AppendToOutgoingContext(t.Context(), "bad name", "")
			_, err := pool.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, streamMethod)
			return err
		}, codes.Internal},
		{"stream on a pool that is closed", func(t *testing.T, pool *Pool, _ *server) error {
			t.Helper()
			stream := begin(t, t.Context(), pool)
			_ = pool.Close()
			return receive(stream)
		}, codes.Unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, func(_ *server, stream grpc.ServerStream) error {
				method, _ := grpc.MethodFromServerStream(stream)
				if method == writeMethod {
					return status.Error(codes.NotFound, "no such account")
				}
				if err := stream.SendMsg(new(emptypb.Empty)); err != nil || method == readMethod {
					return err
				}
				switch md, _ := metadata.FromIncomingContext(stream.Context()); {
				case slices.Equal(md["end"], []string{"OK"}):
					return nil
				case slices.Equal(md["end"], []string{"error"}):
					return status.Error(codes.Aborted, "lost")
				}
				<-stream.Context().Done()
				return nil
			})
			pool := dial(t, s.Addr().String(), Options{Plaintext: true, Connections: 2})
			if got := codeOf(test.call(t, pool, s)); got != test.want {
				t.Errorf("the call ends with %s, want %s", got, test.want)
			}
			eventually(t, func() error {
				for i, c := range *pool.conns.Load() {
					if got := c.inFlight.Load(); got != 0 {
						return fmt.Errorf("connection %d has %d calls in flight after the end", i, got)
					}
				}
				return nil
			})
		})
	}
}

func codeOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return apierror.Status(err).Code()
}

func TestFailedConnectionsAreAvoided(t *testing.T) {
	s := serve(t, respond)
	for _, connections := range []int{2, 4} {
		t.Run(fmt.Sprint(connections, " connections"), func(t *testing.T) {
			pool, n := dialReady(t, s, connections)
			n.setRefuse(true)
			for range connections - 1 {
				n.loseOne()
			}
			waitFor(t, pool, connectivity.Ready, 1)
			waitFor(t, pool, connectivity.TransientFailure, connections-1)
			for range 50 {
				if err := invoke(t, pool, writeMethod); err != nil {
					t.Fatalf("with one connection that is ready: %v", err)
				}
			}
			n.setRefuse(false)
			waitFor(t, pool, connectivity.Ready, connections)
		})
	}
}

func TestNoConnectionIsReady(t *testing.T) {
	pool, n := dialReady(t, serve(t, respond), 2)
	n.setRefuse(true)
	n.loseOne()
	n.loseOne()
	waitFor(t, pool, connectivity.Ready, 0)
	wantFault(t, invoke(t, pool, writeMethod), codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent")
	n.setRefuse(false)
	eventually(t, func() error { return invoke(t, pool, writeMethod) })
}

// TestConnectionsConnectAgain loses a connection that no call is on, as happens when the upstream
// closes connections of a certain age. It comes back without a call.
func TestConnectionsConnectAgain(t *testing.T) {
	pool, n := dialReady(t, serve(t, respond), 2)
	n.setRefuse(true)
	n.loseOne()
	waitFor(t, pool, connectivity.Ready, 1)
	n.setRefuse(false)
	waitFor(t, pool, connectivity.Ready, 2)
}

func TestWaitUntilReady(t *testing.T) {
	s := serve(t, respond)
	const short = 50 * time.Millisecond
	for _, test := range []struct {
		name    string
		network *network
		closed  bool
		limit   time.Duration
		want    bool
	}{
		{"all can connect", &network{address: s.Addr().String()}, false, 10 * time.Second, true},
		{"one can connect, the others hang", &network{address: s.Addr().String(), hang: true}, false, 10 * time.Second, true},
		{"none can connect", &network{refuse: true}, false, short, false},
		{"closed", &network{address: s.Addr().String()}, true, 10 * time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool := dial(t, "mesh:1", Options{Plaintext: true, Connections: 3, Dialer: test.network.dial})
			if test.closed {
				_ = pool.Close()
			}
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), test.limit)
			defer cancel()
			if got := pool.WaitUntilReady(ctx); got != test.want {
				t.Errorf("%t, want %t", got, test.want)
			}
			if took := time.Since(begin); test.limit == short && took < short || took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// BenchmarkPick chooses connections that are ready.
func BenchmarkPick(b *testing.B) {
	s := serve(b, respond)
	for _, connections := range []int{1, 2, 4} {
		b.Run(fmt.Sprint(connections), func(b *testing.B) {
			pool, _ := dialReady(b, s, connections)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if c, _ := pool.pick(); c.enter(false) {
						c.release()
					}
				}
			})
		})
	}
}
