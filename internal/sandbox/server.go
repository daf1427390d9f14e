package sandbox

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// handshakeTimeout limits the handshake of a connection. A graceful stop waits for handshakes.
	handshakeTimeout = 5 * time.Second
	// minPing is the least time between two pings of a client. The Java SDK pings every 30 seconds,
	// also without calls, and grpc-go allows clients to ping every 10 seconds. By default, a server
	// closes connections on which a ping comes more often than every 5 minutes.
	minPing = 9 * time.Second
)

// Server serves a sandbox to gRPC clients, such as the official SDKs. It supports health checks and
// reflection, but not TLS.
type Server struct {
	grpc     *grpc.Server
	stopping context.Context
	stop     context.CancelFunc
	inFlight atomic.Int64
}

// NewServer returns a server of the sandbox. It must be closed before the sandbox.
func (s *Sandbox) NewServer() *Server {
	server := new(Server)
	server.stopping, server.stop = context.WithCancel(context.Background())
	server.grpc = newServer(s.mesh, s.guard, s.descriptors,
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(server.countUnary),
		grpc.ChainStreamInterceptor(server.countStream, server.endStream),
	)
	return server
}

// Serve accepts connections until the listener is closed or the server is shut
// down.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.grpc.Serve(droppable{listener}); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Shutdown closes the listeners, ends all streams with UNAVAILABLE, and waits until unary calls in
// flight have finished. If ctx is done first, it returns the error of ctx. The caller must then call
// Close.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	finished := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(finished)
	}()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes all connections and aborts the calls in flight.
func (s *Server) Close() error {
	s.stop()
	s.grpc.Stop()
	return nil
}

// InFlight returns the number of calls in flight, streams included.
func (s *Server) InFlight() int { return int(s.inFlight.Load()) }

func (s *Server) countUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	return handle(ctx, request)
}

func (s *Server) countStream(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	return handle(service, stream)
}

// endStream ends streams when the server shuts down, since a graceful stop would wait for them
// forever.
func (s *Server) endStream(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	err := handle(service, &endingStream{stream, ctx})
	if status.Code(err) == codes.Canceled && stream.Context().Err() == nil {
		return status.Error(codes.Unavailable, "The sandbox is shutting down. Connect again.")
	}
	return err
}

// endingStream is a stream whose context can end before the client leaves.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *endingStream) Context() context.Context { return s.ctx }

// RecvMsg returns early when the context ends, for handlers that wait for their
// client, as reflection does. The message must not be used then.
func (s *endingStream) RecvMsg(message any) error {
	received := make(chan error, 1)
	go func() { received <- s.ServerStream.RecvMsg(message) }()
	select {
	case err := <-received:
		return err
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}
