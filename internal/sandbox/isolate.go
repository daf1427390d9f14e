package sandbox

import (
	"context"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// IsolatedConn is a connection to a sandbox that many callers share. A call that asks for the fault
// drop-after-send, which breaks its connection, gets one of its own.
//
// The connection is what breaks, since that is what the fault is for: a client sees a lost
// connection, UNAVAILABLE. A reset of the stream alone would be CANCELLED or INTERNAL to it, and the
// server of grpc-go cannot reset one. A gRPC client that is not in this process, such as an SDK, has
// a connection of its own, and the fault breaks that.
type IsolatedConn struct {
	Conn
	dial func() (Conn, error)
}

// Conn is a connection that its owner closes, such as a [grpc.ClientConn].
type Conn interface {
	grpc.ClientConnInterface
	io.Closer
}

// Isolate returns conn with the calls that break their connection made over another, from dial.
func Isolate(conn Conn, dial func() (Conn, error)) *IsolatedConn { return &IsolatedConn{conn, dial} }

// Invoke implements [grpc.ClientConnInterface].
func (c *IsolatedConn) Invoke(ctx context.Context, method string, request, reply any, opts ...grpc.CallOption) error {
	if !drops(ctx) {
		return c.Conn.Invoke(ctx, method, request, reply, opts...)
	}
	own, err := c.dial()
	if err != nil {
		return err
	}
	defer own.Close()
	return own.Invoke(ctx, method, request, reply, opts...)
}

// NewStream implements [grpc.ClientConnInterface].
func (c *IsolatedConn) NewStream(ctx context.Context, description *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if !drops(ctx) {
		return c.Conn.NewStream(ctx, description, method, opts...)
	}
	own, err := c.dial()
	if err != nil {
		return nil, err
	}
	stream, err := own.NewStream(ctx, description, method, opts...)
	if err != nil {
		_ = own.Close()
		return nil, err
	}
	context.AfterFunc(stream.Context(), func() { _ = own.Close() }) // when the stream ends
	return stream, nil
}

// drops reports whether a call asks for its connection to break.
func drops(ctx context.Context) bool {
	sent, _ := metadata.FromOutgoingContext(ctx)
	return slices.Contains(sent.Get(wire.SandboxFaultHeader), dropAfterSend)
}
