// Package meshtest holds what tests of several packages need: an upstream that
// records what reaches it, and random messages that keep the contract's rules.
package meshtest

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// ErrStayOpen, as the error of an answer, keeps the call open until the client
// ends it.
var ErrStayOpen = errors.New("stay open")

// Call is what an upstream received.
type Call struct {
	Method   string
	Request  proto.Message
	Metadata metadata.MD
}

// Upstream is a real gRPC server on loopback that answers every method of the
// contract with what Answer says, and records each call.
type Upstream struct {
	Target string

	mu     sync.Mutex
	calls  []Call
	answer func(method protoreflect.MethodDescriptor) ([]proto.Message, error)
	// headersFirst sends headers before the answer.
	headersFirst bool
}

// NewUpstream starts an upstream that ends with the test. Until told otherwise
// it answers with one empty message.
func NewUpstream(t testing.TB) *Upstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &Upstream{Target: listener.Addr().String()}
	u.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
		return []proto.Message{dynamicpb.NewMessage(method.Output())}, nil
	})
	server := grpc.NewServer(grpc.UnknownServiceHandler(u.handle))
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

// Dial connects to the upstream without any of the gateway's own dialling.
func (u *Upstream) Dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(u.Target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Answer sets what the upstream sends: the messages, then the error if any.
func (u *Upstream) Answer(answer func(protoreflect.MethodDescriptor) ([]proto.Message, error)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// SendHeadersFirst makes the upstream accept each call by sending headers, and answer
// it then.
func (u *Upstream) SendHeadersFirst() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.headersFirst = true
}

// Fail makes the upstream answer every call with st.
func (u *Upstream) Fail(st *status.Status) {
	u.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) { return nil, st.Err() })
}

// Calls returns what was received since the last time it was asked.
func (u *Upstream) Calls() []Call {
	u.mu.Lock()
	defer u.mu.Unlock()
	calls := u.calls
	u.calls = nil
	return calls
}

func (u *Upstream) handle(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(
		protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", ".")))
	if err != nil {
		return status.Error(codes.Unimplemented, fmt.Sprintf("%s is not in the contract", name))
	}
	method := descriptor.(protoreflect.MethodDescriptor)
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
