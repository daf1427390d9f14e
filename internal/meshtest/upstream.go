// Package meshtest provides test helpers: an upstream that records calls, and random messages that
// satisfy the rules of the contract.
package meshtest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// ErrStayOpen is an error for [Upstream.Answer] that keeps the call open until the client ends it.
var ErrStayOpen = errors.New("stay open")

// Call is a call that an upstream received.
type Call struct {
	Method   string
	Request  proto.Message
	Metadata metadata.MD
}

// Upstream is a gRPC server on a loopback address. It responds to all methods of the contract as set
// with Answer, and records each call.
type Upstream struct {
	Target string

	mu     sync.Mutex
	calls  []Call
	answer func(method protoreflect.MethodDescriptor) ([]proto.Message, error)
	// headersFirst reports whether headers are sent before the response.
	headersFirst bool
}

// NewUpstream starts an upstream that is stopped at the end of the test. By default it responds with
// one empty message. The options may set credentials, in place of no TLS.
func NewUpstream(t testing.TB, options ...grpc.ServerOption) *Upstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &Upstream{Target: listener.Addr().String()}
	u.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
		return []proto.Message{dynamicpb.NewMessage(method.Output())}, nil
	})
	server := grpc.NewServer(append(options, grpc.UnknownServiceHandler(u.handle))...)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return u
}

// Dial returns a plain connection to the upstream, without the retries and error translation of
// package upstream.
func (u *Upstream) Dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(u.Target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Answer sets a function that returns the response to a method: messages, and then an error or nil.
func (u *Upstream) Answer(answer func(protoreflect.MethodDescriptor) ([]proto.Message, error)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// SendHeadersFirst makes the upstream send headers before it computes the response.
func (u *Upstream) SendHeadersFirst() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.headersFirst = true
}

// Fail makes the upstream respond to every call with st.
func (u *Upstream) Fail(st *status.Status) {
	u.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) { return nil, st.Err() })
}

// Calls returns the calls received since it was last called.
func (u *Upstream) Calls() []Call {
	u.mu.Lock()
	defer u.mu.Unlock()
	calls := u.calls
	u.calls = nil
	return calls
}

func (u *Upstream) handle(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	found := contract.ByName(name)
	if found == nil { // such as health checks, which come at any time
		return status.Error(codes.Unimplemented, fmt.Sprintf("%s is not in the contract", name))
	}
	method := found.Descriptor
	request := dynamicpb.NewMessage(method.Input())
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	received, _ := metadata.FromIncomingContext(stream.Context())
	u.mu.Lock()
	u.calls = append(u.calls, Call{name, request, received})
	answer, headersFirst := u.answer, u.headersFirst
	u.mu.Unlock()
	if headersFirst {
		if err := stream.SendHeader(nil); err != nil {
			return err
		}
	}

	messages, err := answer(method)
	for _, message := range messages {
		if err := stream.SendMsg(message); err != nil {
			return err
		}
	}
	if errors.Is(err, ErrStayOpen) {
		<-stream.Context().Done()
		return status.FromContextError(stream.Context().Err()).Err()
	}
	return err
}
