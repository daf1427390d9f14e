package gateway

import (
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// readAhead is how many messages of a stream are received before they are written. Messages that
// come at once are then flushed together.
const readAhead = 8

// validatingStream is a stream with one request. Its context is that of the HTTP
// request, which ends it.
type validatingStream struct {
	grpc.ClientStream // nil until it is opened

	open      func() (grpc.ClientStream, error)
	rules     *rules
	request   *request
	keepAlive time.Duration
	// codec keeps the messages until they are handed over.
	codec wireCodec
	// received has the messages, the first of which may be in peeked. When it is closed, err
	// is how the stream ended.
	received chan received
	peeked   *received
	err      error
}

// received is a message in its wire form or, if the connection ignores the codec, the message.
type received struct {
	form    mem.Buffer
	message proto.Message
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

// Header begins to receive. It waits for the first message or the refusal that comes in
// its place, at most one keep-alive interval. The generated handlers answer an error of
// Header like that of a unary call: with its status, in the one shape of errors.
func (s *validatingStream) Header() (metadata.MD, error) {
	s.received = make(chan received, readAhead)
	s.request.receiving.Go(s.receive)
	timer := time.NewTimer(s.keepAlive)
	defer timer.Stop()
	select {
	case one, ok := <-s.received:
		if ok {
			s.peeked = &one
		} else if !errors.Is(s.err, io.EOF) {
			return nil, s.err
		}
	case <-timer.C:
	}
	return nil, nil
}

// receive receives until the stream ends, which it does when the request does.
func (s *validatingStream) receive() {
	defer close(s.received)
	output := s.request.route.Method.Descriptor.Output()
	message := newMessage(output)
	for ended := false; ; {
		if s.err = s.ClientStream.RecvMsg(message); s.err != nil {
			s.codec.release()
			return
		}
		one := received{s.codec.take(), message}
		if one.form == nil { // otherwise the message is still empty
			message = newMessage(output)
		}
		if !ended {
			select {
			case s.received <- one:
				continue
			case <-s.request.ctx.Done():
			}
		}
		// Messages after one that was not taken must not be taken either.
		ended = true
		one.release()
	}
}

func (r *received) release() {
	if r.form != nil {
		r.form.Free()
	}
}

// RecvMsg hands the next message over to the request. The bytes of messages that are never
// received are left to the garbage collector.
func (s *validatingStream) RecvMsg(message any) error {
	one := s.peeked
	s.peeked = nil
	if one == nil {
		next, ok := <-s.received
		if !ok {
			return s.err
		}
		one = &next
	}
	s.request.more = len(s.received) > 0
	if one.form != nil {
		s.request.codec.release()
		s.request.codec.held = one.form
		return nil
	}
	into, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("gateway: %T is not a protobuf message", message)
	}
	proto.Merge(into, one.message)
	return nil
}
