package upstream

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	writeMethod  = "/meshtrade.wallet.transfer.v1.TransferService/CreateTransfer"
	readMethod   = "/meshtrade.wallet.transfer.v1.TransferService/GetTransfer"
	streamMethod = "/meshtrade.wallet.transfer.v1.TransferService/MonitorTransfer"
)

// server handles every method with handle and counts the calls, except probes. It keeps the connections so that
// handle can close them.
type server struct {
	net.Listener
	calls atomic.Int32

	mu    sync.Mutex
	conns []net.Conn
}

func (s *server) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err == nil {
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
	}
	return conn, err
}

func (s *server) closeConns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
}

func serve(t testing.TB, handle func(s *server, stream grpc.ServerStream) error) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Listener: listener}
	g := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
			return err
		}
		if method, _ := grpc.MethodFromServerStream(stream); method == healthMethod {
			return stream.SendMsg(new(emptypb.Empty))
		}
		s.calls.Add(1)
		return handle(s, stream)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(s)
	}()
	t.Cleanup(func() { g.Stop(); <-done })
	return s
}

func dial(t testing.TB, address string, opts Options) *Pool {
	t.Helper()
	conn, err := Dial(address, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func invoke(t *testing.T, conn *Pool, method string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return conn.Invoke(ctx, method, new(emptypb.Empty), new(wrapperspb.BytesValue))
}

// unusedAddress returns an address on which nothing listens.
func unusedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func wantFault(t *testing.T, err error, code codes.Code, reason apierror.Reason, message string) {
	t.Helper()
	own, ok := errors.AsType[*apierror.Error](err)
	if !ok {
		t.Fatalf("%v (%T) is not an error of the gateway", err, err)
	}
	st := own.GRPCStatus()
	if st.Code() != code {
		t.Errorf("code %s, want %s", st.Code(), code)
	}
	if got := reasonOf(st); got != reason {
		t.Errorf("reason %s, want %s", got, reason)
	}
	if !strings.Contains(st.Message(), message) {
		t.Errorf("message %q does not contain %q", st.Message(), message)
	}
	for _, internal := range []string{"127.0.0.1", "transport", "rpc error", "EOF", "RST_STREAM", "dial", "received message"} {
		if strings.Contains(st.Message(), internal) || strings.Contains(err.Error(), internal) {
			t.Errorf("message %q contains %q", err, internal)
		}
	}
	if apierror.CauseOf(err) == nil {
		t.Error("the error has no cause")
	}
}

func reasonOf(st *status.Status) apierror.Reason {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == apierror.Domain {
			return apierror.Reason(info.GetReason())
		}
	}
	return ""
}

func TestUnusedPort(t *testing.T) {
	conn := dial(t, unusedAddress(t), Options{Plaintext: true})
	for _, method := range []string{writeMethod, readMethod} {
		wantFault(t, invoke(t, conn, method), codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent")
	}
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, streamMethod)
	if err == nil {
		err = stream.RecvMsg(new(emptypb.Empty))
	}
	wantFault(t, err, codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent")
}

func TestTLSAgainstPlaintextServer(t *testing.T) {
	s := serve(t, func(*server, grpc.ServerStream) error { return nil })
	conn := dial(t, s.Addr().String(), Options{})
	wantFault(t, invoke(t, conn, writeMethod), codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent")
	if got := s.calls.Load(); got != 0 {
		t.Errorf("%d calls over a connection without TLS", got)
	}
}

func TestConnectionLostAfterRequest(t *testing.T) {
	for _, test := range []struct {
		name, method string
		reason       apierror.Reason
		message      string
		calls        int32
	}{
		{"a write is sent once", writeMethod, apierror.OutcomeUnknown, "Check with GET /v1/wallet/transfers (ListTransfers)", 1},
		{"an unknown method is treated as a write", "/x.Y/Z", apierror.OutcomeUnknown, "may or may not", 1},
		{"a read is attempted three times", readMethod, apierror.UpstreamUnreachable, "safe to repeat", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, func(s *server, _ grpc.ServerStream) error { s.closeConns(); return nil })
			conn := dial(t, s.Addr().String(), Options{Plaintext: true})
			wantFault(t, invoke(t, conn, test.method), codes.Unavailable, test.reason, test.message)
			// Wait for a late retry.
			time.Sleep(300 * time.Millisecond)
			if got := s.calls.Load(); got != test.calls {
				t.Errorf("%d calls, want %d", got, test.calls)
			}
		})
	}
}

func TestReadSucceedsOnRetry(t *testing.T) {
	s := serve(t, func(s *server, stream grpc.ServerStream) error {
		if s.calls.Load() == 1 {
			s.closeConns()
			return nil
		}
		return stream.SendMsg(new(emptypb.Empty))
	})
	if err := invoke(t, dial(t, s.Addr().String(), Options{Plaintext: true}), readMethod); err != nil {
		t.Fatal(err)
	}
	if got := s.calls.Load(); got != 2 {
		t.Errorf("%d calls, want 2", got)
	}
}

func TestCallStaysSentAfterAFailedReconnect(t *testing.T) {
	s := serve(t, func(s *server, _ grpc.ServerStream) error {
		_ = s.Close()
		s.closeConns()
		return nil
	})
	conn := dial(t, s.Addr().String(), Options{Plaintext: true})
	wantFault(t, invoke(t, conn, writeMethod), codes.Unavailable, apierror.OutcomeUnknown, "was sent")
	wantFault(t, invoke(t, conn, writeMethod), codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent")
}

func TestDeadline(t *testing.T) {
	s := serve(t, func(_ *server, stream grpc.ServerStream) error {
		<-stream.Context().Done()
		return stream.Context().Err()
	})
	conn := dial(t, s.Addr().String(), Options{Plaintext: true})
	for _, test := range []struct {
		name, method string
		timeout      time.Duration
		code         codes.Code
		reason       apierror.Reason
	}{
		{"write", writeMethod, 100 * time.Millisecond, codes.DeadlineExceeded, apierror.OutcomeUnknown},
		{"read", readMethod, 100 * time.Millisecond, codes.DeadlineExceeded, apierror.UpstreamTimeout},
		{"write that was not sent", writeMethod, 0, codes.Unavailable, apierror.UpstreamUnreachable},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.timeout)
			defer cancel()
			err := conn.Invoke(ctx, test.method, new(emptypb.Empty), new(emptypb.Empty))
			wantFault(t, err, test.code, test.reason, "")
		})
	}
}

func TestCanceled(t *testing.T) {
	reached := make(chan struct{}, 1)
	s := serve(t, func(_ *server, stream grpc.ServerStream) error {
		reached <- struct{}{}
		<-stream.Context().Done()
		return stream.Context().Err()
	})
	conn := dial(t, s.Addr().String(), Options{Plaintext: true})
	for _, method := range []string{writeMethod, readMethod} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-reached; cancel() }()
		err := conn.Invoke(ctx, method, new(emptypb.Empty), new(emptypb.Empty))
		wantFault(t, err, codes.Canceled, apierror.ClientClosedRequest, "client closed")
	}
}

// TestCutOff cancels the context of a call with the cause that the server uses at shutdown. The
// client is still connected, and its error must say what is known.
func TestCutOff(t *testing.T) {
	reached := make(chan struct{}, 1)
	s := serve(t, func(_ *server, stream grpc.ServerStream) error {
		reached <- struct{}{}
		<-stream.Context().Done()
		return stream.Context().Err()
	})
	conn := dial(t, s.Addr().String(), Options{Plaintext: true})
	for method, reason := range map[string]apierror.Reason{writeMethod: apierror.OutcomeUnknown, readMethod: apierror.UpstreamTimeout} {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-reached; cancel(context.DeadlineExceeded) }()
		err := conn.Invoke(ctx, method, new(emptypb.Empty), new(emptypb.Empty))
		wantFault(t, err, codes.DeadlineExceeded, reason, "")
	}
}

func TestClosedConnection(t *testing.T) {
	s := serve(t, func(*server, grpc.ServerStream) error { return nil })
	conn := dial(t, s.Addr().String(), Options{Plaintext: true})
	_ = conn.Close()
	wantFault(t, invoke(t, conn, writeMethod), codes.Unavailable, apierror.UpstreamUnreachable, "Nothing was sent")
}

func TestUpstreamStatusIsUnchanged(t *testing.T) {
	sent := func(code codes.Code, message string) *status.Status {
		st, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Reason: "MAINTENANCE", Domain: "mesh.trade"})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	for _, test := range []struct {
		name, method string
		status       *status.Status
		header       bool
		calls        int32
	}{
		{"unavailable read", readMethod, sent(codes.Unavailable, "closed for maintenance"), false, 3},
		{"error after headers", writeMethod, sent(codes.FailedPrecondition, "not opened"), true, 1},
		{"deadline of a read", readMethod, sent(codes.DeadlineExceeded, "ledger"), false, 1},
		{"canceled read", readMethod, sent(codes.Canceled, "context canceled"), false, 1},
		{"aborted write", writeMethod, sent(codes.Aborted, "a transaction was lost"), false, 1},
		{"a text at the limit", writeMethod, sent(codes.FailedPrecondition, strings.Repeat("x", 4096)), false, 1},
		{"request too large for the upstream", writeMethod, sent(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"), false, 1},
		{"quota", writeMethod, sent(codes.ResourceExhausted, "slow down"), true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, func(_ *server, stream grpc.ServerStream) error {
				if test.header {
					_ = stream.SendHeader(metadata.Pairs("x", "y"))
				}
				return test.status.Err()
			})
			err := invoke(t, dial(t, s.Addr().String(), Options{Plaintext: true}), test.method)
			if _, own := errors.AsType[*apierror.Error](err); own {
				t.Fatalf("%v became an error of the gateway", err)
			}
			got, ok := status.FromError(err)
			if !ok || got.Code() != test.status.Code() || got.Message() != test.status.Message() || len(got.Details()) != 1 {
				t.Errorf("%v with details %v, want %v", err, got.Details(), test.status)
			}
			if got := s.calls.Load(); got != test.calls {
				t.Errorf("%d calls, want %d", got, test.calls)
			}
		})
	}
}

func TestReplySize(t *testing.T) {
	// The tag and the length of the field have 5 bytes at this size.
	const over = MaxReplyBytes - 5 + 1
	for _, test := range []struct {
		name, method string
		bytes        int
		message      string
	}{
		{"at the limit", readMethod, over - 1, ""},
		{"over, read", readMethod, over, "Request less data at a time"},
		{"over, write", writeMethod, over, "may or may not"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, func(_ *server, stream grpc.ServerStream) error {
				return stream.SendMsg(wrapperspb.Bytes(make([]byte, test.bytes)))
			})
			err := invoke(t, dial(t, s.Addr().String(), Options{Plaintext: true}), test.method)
			if test.message == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			reason := apierror.UpstreamReply
			if test.method == writeMethod {
				reason = apierror.OutcomeUnknown
			}
			wantFault(t, err, codes.Internal, reason, test.message)
			if got := s.calls.Load(); got != 1 {
				t.Errorf("%d calls, want 1", got)
			}
		})
	}
}

func TestUnusableReply(t *testing.T) {
	for _, test := range []struct {
		name   string
		handle func(*server, grpc.ServerStream) error
	}{
		{"no message", func(*server, grpc.ServerStream) error { return nil }},
		{"another message", func(_ *server, stream grpc.ServerStream) error {
			// Not valid protobuf of any type.
			return stream.SendMsg(garbage())
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, test.handle)
			err := invoke(t, dial(t, s.Addr().String(), Options{Plaintext: true}), writeMethod)
			wantFault(t, err, codes.Internal, apierror.OutcomeUnknown, "may or may not")
		})
	}
}

// garbage returns a message that marshals to bytes that end within a field.
func garbage() *emptypb.Empty {
	m := new(emptypb.Empty)
	m.ProtoReflect().SetUnknown([]byte{0x0a, 0x01, 0xff, 0x08, 0x01, 0x12, 0x00, 0x0a, 0x7f})
	return m
}

func TestStream(t *testing.T) {
	for _, test := range []struct {
		name   string
		handle func(*server, grpc.ServerStream) error
		check  func(*testing.T, error)
	}{
		{"lost in the middle", func(s *server, _ grpc.ServerStream) error { s.closeConns(); return nil }, func(t *testing.T, err error) {
			t.Helper()
			wantFault(t, err, codes.Unavailable, apierror.UpstreamUnreachable, "connection to the Mesh API was lost")
		}},
		{"ended by the upstream", func(*server, grpc.ServerStream) error { return status.Error(codes.NotFound, "gone") }, func(t *testing.T, err error) {
			t.Helper()
			if _, own := errors.AsType[*apierror.Error](err); own || status.Code(err) != codes.NotFound {
				t.Errorf("%v, want the upstream's NOT_FOUND", err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			received := make(chan struct{})
			s := serve(t, func(s *server, stream grpc.ServerStream) error {
				if err := stream.SendMsg(new(emptypb.Empty)); err != nil {
					return err
				}
				<-received
				return test.handle(s, stream)
			})
			conn := dial(t, s.Addr().String(), Options{Plaintext: true})
			stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, streamMethod)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(new(emptypb.Empty)); err != nil {
				t.Fatal(err)
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
				t.Fatal(err)
			}
			close(received)
			test.check(t, stream.RecvMsg(new(emptypb.Empty)))
			if got := s.calls.Load(); got != 1 {
				t.Errorf("%d calls, want 1", got)
			}
		})
	}
}
