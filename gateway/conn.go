package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// validatingConn is the last step before the upstream. It checks the finished request
// message, whatever parts of the HTTP request it came from, and sends no metadata but
// that of the request.
type validatingConn struct {
	conn  grpc.ClientConnInterface
	rules *rules
	// codec leaves replies in their wire form. A connection that ignores it hands over
	// messages, which are written by protojson.
	codec wireCodec
	// keepAlive is how long a stream waits for its first message.
	keepAlive time.Duration
}

// Invoke checks the request and calls the upstream once.
func (c *validatingConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if err := c.rules.check(args); err != nil {
		return err
	}
	return c.conn.Invoke(outgoing(ctx), method, args, reply, append(opts, grpc.ForceCodecV2(c.codec))...)
}

// NewStream returns a stream that is opened when its request has passed the check.
func (c *validatingConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	called := contract.ByName(method)
	if called == nil {
		return nil, fmt.Errorf("gateway: %s is not in the contract", method)
	}
	return &validatingStream{
		rules: c.rules, keepAlive: c.keepAlive, method: called,
		open: func() (grpc.ClientStream, error) {
			return c.conn.NewStream(outgoing(ctx), desc, method, append(opts, grpc.ForceCodecV2(c.codec))...)
		},
	}, nil
}

// validatingStream is a stream with one request. Its context is that of the HTTP
// request, which ends it.
type validatingStream struct {
	grpc.ClientStream // nil until it is opened

	open      func() (grpc.ClientStream, error)
	rules     *rules
	method    *contract.Method
	keepAlive time.Duration
	// first brings the first message, or the error in its place. It is nil once that
	// was received.
	first chan received
}

type received struct {
	message proto.Message
	err     error
}

// SendMsg checks the request, opens the stream and sends it.
func (s *validatingStream) SendMsg(message any) error {
	err := s.rules.check(message)
	if err != nil {
		return err
	}
	if s.ClientStream, err = s.open(); err != nil {
		return err
	}
	return s.ClientStream.SendMsg(message)
}

// Header waits for the first message or the refusal that comes in its place, at most
// one keep-alive interval. The generated handlers answer an error of Header like that
// of a unary call: with its status, in the one shape of errors.
func (s *validatingStream) Header() (metadata.MD, error) {
	s.first = make(chan received, 1)
	go func() {
		message := newMessage(s.method.Descriptor.Output())
		err := s.ClientStream.RecvMsg(message)
		s.first <- received{message, err}
	}()
	timer := time.NewTimer(s.keepAlive)
	defer timer.Stop()
	select {
	case one := <-s.first:
		if one.err != nil && !errors.Is(one.err, io.EOF) {
			return nil, one.err
		}
		s.first <- one
	case <-timer.C:
	}
	return nil, nil
}

func (s *validatingStream) RecvMsg(message any) error {
	if s.first == nil {
		return s.ClientStream.RecvMsg(message)
	}
	one := <-s.first
	s.first = nil
	if one.err != nil {
		return one.err
	}
	into, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("gateway: %T is not a protobuf message", message)
	}
	proto.Merge(into, one.message)
	return nil
}
