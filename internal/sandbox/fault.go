package sandbox

import (
	"context"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

const (
	// maxFaultTime bounds what a fault can hold up.
	maxFaultTime  = time.Minute
	dropAfterSend = "drop-after-send"
)

// fault is one that a call asks for: what happens before it and after it.
type fault struct{ before, after func(context.Context) error }

// faultOf reads the header [wire.SandboxFaultHeader], with which a client tests what
// it does when a call fails:
//
//	unavailable       UNAVAILABLE; nothing was done
//	exhausted         RESOURCE_EXHAUSTED; nothing was done
//	slow=2s           the answer takes that much longer, one minute at most
//	deadline          no answer until the client's deadline, one minute at most
//	drop-after-send   the call is carried out, and the connection breaks before
//	                  the answer, or in place of a stream's second message
//
// A call without the header gets a fault that does nothing.
func faultOf(ctx context.Context) (fault, error) {
	none := func(context.Context) error { return nil }
	received, _ := metadata.FromIncomingContext(ctx)
	asked := wire.First(received, wire.SandboxFaultHeader)
	kind, argument, _ := strings.Cut(asked, "=")
	refuse := func(code codes.Code) func(context.Context) error {
		return func(context.Context) error {
			return status.Errorf(code, "This error was requested with the header %s: %s.", wire.SandboxFaultHeader, asked)
		}
	}
	switch kind {
	case "":
		return fault{none, none}, nil
	case "unavailable":
		return fault{refuse(codes.Unavailable), none}, nil
	case "exhausted":
		return fault{refuse(codes.ResourceExhausted), none}, nil
	case "slow":
		duration, err := time.ParseDuration(argument)
		if err != nil || duration <= 0 || duration > maxFaultTime {
			return fault{}, status.Errorf(codes.InvalidArgument, "The %s value %q is invalid. Use slow= and a duration of at most 1m, such as slow=2s.", wire.SandboxFaultHeader, asked)
		}
		return fault{func(ctx context.Context) error { return pause(ctx, duration) }, none}, nil
	case "deadline":
		return fault{func(ctx context.Context) error {
			if err := pause(ctx, maxFaultTime); err != nil {
				return err
			}
			return refuse(codes.DeadlineExceeded)(ctx)
		}, none}, nil
	case dropAfterSend:
		return fault{none, drop}, nil
	}
	return fault{}, status.Errorf(codes.InvalidArgument,
		"The %s value %q is invalid. Use unavailable, exhausted, slow=2s, deadline or drop-after-send.", wire.SandboxFaultHeader, asked)
}

func pause(ctx context.Context, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-timer.C:
		return nil
	}
}

func faultUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	f, err := faultOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.before(ctx); err != nil {
		return nil, err
	}
	reply, err := handle(ctx, request)
	if err != nil {
		return nil, err
	}
	return reply, f.after(ctx)
}

func faultStream(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	f, err := faultOf(stream.Context())
	if err != nil {
		return err
	}
	if err := f.before(stream.Context()); err != nil {
		return err
	}
	if err := handle(service, &faultyStream{ServerStream: stream, fault: f}); err != nil {
		return err
	}
	return f.after(stream.Context())
}

// faultyStream fails in place of its second message: the first has arrived by
// then.
type faultyStream struct {
	grpc.ServerStream
	fault fault
	begun bool
}

func (s *faultyStream) SendMsg(message any) error {
	if s.begun {
		if err := s.fault.after(s.Context()); err != nil {
			return err
		}
	}
	s.begun = true
	return s.ServerStream.SendMsg(message)
}

// drop breaks the connection that the call came over. It waits for the break,
// since an answer that overtakes it would undo the fault.
func drop(ctx context.Context) error {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.Internal, "The call has no peer, so its connection cannot be dropped.")
	}
	address, ok := from.Addr.(droppableAddr)
	if !ok {
		return status.Error(codes.Internal, "The connection of the call cannot be dropped.")
	}
	if err := address.conn.Close(); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// droppable is a listener whose connections can be closed by who serves a call:
// gRPC tells a handler the address of its peer and nothing more.
type droppable struct{ net.Listener }

func (l droppable) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return droppableConn{conn}, nil
}

type droppableConn struct{ net.Conn }

func (c droppableConn) RemoteAddr() net.Addr { return droppableAddr{c.Conn.RemoteAddr(), c.Conn} }

type droppableAddr struct {
	net.Addr
	conn net.Conn
}
