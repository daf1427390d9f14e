package sandbox

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// handshakeTimeout is how long a connection may take to begin. A server that
// shuts down waits for connections that have not.
const handshakeTimeout = 5 * time.Second

// Server serves a sandbox to gRPC clients, the official SDKs among them. Health
// checks and reflection are on, and there is no TLS.
type Server struct {
	grpc     *grpc.Server
	stopping context.Context
	stop     context.CancelFunc
	inFlight atomic.Int64
}

// NewServer returns a server of the sandbox. The sandbox must not be closed
// before the server is.
func (s *Sandbox) NewServer() *Server {
	server := new(Server)
	server.stopping, server.stop = context.WithCancel(context.Background())
	server.grpc = newServer(s.store, s.guard,
		grpc.ConnectionTimeout(handshakeTimeout),
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

// Shutdown closes the listeners, ends all streams with UNAVAILABLE, and waits
// until unary calls in flight have finished. If ctx is done first, it returns its
// error; Close ends what is left.
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

// Close closes all connections, and with them the calls in flight.
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

// endStream ends a stream when the server is about to stop. Streams have no other
// bound, and a graceful stop would wait for them.
func (s *Server) endStream(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	err := handle(service, &endingStream{stream, ctx})
	if status.Code(err) == codes.Canceled && stream.Context().Err() == nil {
		return status.Error(codes.Unavailable, "The sandbox is about to stop. Connect again.")
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
