package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// rawUpstream accepts HTTP/2 connections and answers each request with frames, which a server of
// gRPC would not all send. It counts the requests that arrived whole.
type rawUpstream struct {
	net.Listener
	requests atomic.Int32
}

// rawStream is a request that a rawUpstream answers.
type rawStream struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	id     uint32
}

func serveRaw(t *testing.T, answer func(rawStream)) *rawUpstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &rawUpstream{Listener: listener}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go u.serve(t, conn, answer)
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return u
}

func (u *rawUpstream) serve(t *testing.T, conn net.Conn, answer func(rawStream)) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() {
			_ = framer.WriteSettingsAck()
		}
		if data, ok := frame.(*http2.DataFrame); ok && data.StreamEnded() {
			u.requests.Add(1)
			answer(rawStream{t, conn, framer, data.StreamID})
		}
	}
}

// headers sends a HEADERS frame with pairs of names and values.
func (s rawStream) headers(end bool, pairs ...string) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(pairs); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	// A client that has what it needs may close the connection.
	_ = s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
}

func (s rawStream) grpcHeaders() {
	s.headers(false, ":status", "200", "content-type", "application/grpc")
}

// data sends a DATA frame.
func (s rawStream) data(end bool, data string) { _ = s.framer.WriteData(s.id, end, []byte(data)) }

// message is a gRPC message of 3 bytes that is valid as any message.
const message = "\x00\x00\x00\x00\x03\x78\x01\x00"

// TestOutcomes has each way in which a call can end after it was sent. What it wants of a write is
// that the outcome is unknown, except where Mesh itself has answered.
func TestOutcomes(t *testing.T) {
	status200 := []string{":status", "200", "content-type", "application/grpc"}
	trailersOnly := func(code, text string) func(rawStream) {
		return func(s rawStream) { s.headers(true, append(status200, "grpc-status", code, "grpc-message", text)...) }
	}
	html := func(status string) func(rawStream) {
		return func(s rawStream) {
			s.headers(false, ":status", status, "content-type", "text/html")
			s.data(true, "<html>upstream connect error</html>")
		}
	}
	type want struct {
		code   codes.Code
		reason apierror.Reason // "" for an answer of Mesh that is passed on
		http   int
	}
	unknown := func(code codes.Code, http int) want { return want{code, apierror.OutcomeUnknown, http} }
	for _, test := range []struct {
		name        string
		answer      func(rawStream)
		write, read want
	}{
		{"an answer of Mesh", trailersOnly("9", "not opened"),
			want{codes.FailedPrecondition, "", 400}, want{codes.FailedPrecondition, "", 400}},
		{"an answer of Mesh after a header", func(s rawStream) { s.grpcHeaders(); s.headers(true, "grpc-status", "5") },
			want{codes.NotFound, "", 404}, want{codes.NotFound, "", 404}},
		{"UNAVAILABLE, as proxies answer", trailersOnly("14", "upstream connect error"),
			unknown(codes.Unavailable, 503), want{codes.Unavailable, "", 503}},
		{"DEADLINE_EXCEEDED, as proxies answer", trailersOnly("4", "stream timeout"),
			unknown(codes.DeadlineExceeded, 504), want{codes.DeadlineExceeded, "", 504}},
		{"CANCELLED", trailersOnly("1", "context canceled"),
			unknown(codes.Unavailable, 503), want{codes.Canceled, "", 499}},
		{"INTERNAL", trailersOnly("13", "nil pointer at ledger.go:7"),
			unknown(codes.Internal, 500), want{codes.Internal, apierror.UpstreamFailed, 500}},
		{"UNKNOWN", trailersOnly("2", "nil pointer at ledger.go:7"),
			unknown(codes.Unknown, 500), want{codes.Unknown, apierror.UpstreamFailed, 500}},
		{"DATA_LOSS", trailersOnly("15", "nil pointer at ledger.go:7"),
			unknown(codes.DataLoss, 500), want{codes.DataLoss, apierror.UpstreamFailed, 500}},
		{"half a message", func(s rawStream) { s.grpcHeaders(); s.data(false, message[:6]); s.headers(true, "grpc-status", "0") },
			unknown(codes.Internal, 502), want{codes.Internal, apierror.UpstreamReply, 502}},
		{"half a message without trailers", func(s rawStream) { s.grpcHeaders(); s.data(true, message[:6]) },
			unknown(codes.Internal, 502), want{codes.Internal, apierror.UpstreamReply, 502}},
		{"a message without trailers", func(s rawStream) { s.grpcHeaders(); s.data(true, message) },
			unknown(codes.Internal, 502), want{codes.Internal, apierror.UpstreamReply, 502}},
		{"an answer without a status", func(s rawStream) { s.headers(true, status200...) },
			unknown(codes.Unknown, 500), want{codes.Unknown, apierror.UpstreamFailed, 500}},
		{"success without a message", func(s rawStream) { s.grpcHeaders(); s.headers(true, "grpc-status", "0") },
			unknown(codes.Internal, 502), want{codes.Internal, apierror.UpstreamReply, 502}},
		{"two messages", func(s rawStream) {
			s.grpcHeaders()
			s.data(false, message+message)
			s.headers(true, "grpc-status", "0")
		}, unknown(codes.Internal, 502), want{codes.Internal, apierror.UpstreamReply, 502}},
		{"a reset", func(s rawStream) { _ = s.framer.WriteRSTStream(s.id, http2.ErrCodeInternal) },
			unknown(codes.Unavailable, 503), want{codes.Unavailable, apierror.UpstreamUnreachable, 503}},
		{"a reset after a header", func(s rawStream) { s.grpcHeaders(); _ = s.framer.WriteRSTStream(s.id, http2.ErrCodeCancel) },
			unknown(codes.Unavailable, 503), want{codes.Unavailable, apierror.UpstreamUnreachable, 503}},
		{"a lost connection", func(s rawStream) { _ = s.conn.Close() },
			unknown(codes.Unavailable, 503), want{codes.Unavailable, apierror.UpstreamUnreachable, 503}},
		{"HTML with status 502", html("502"),
			unknown(codes.Unavailable, 503), want{codes.Unavailable, apierror.UpstreamUnreachable, 503}},
		{"HTML with status 404", html("404"),
			unknown(codes.Internal, 502), want{codes.Internal, apierror.UpstreamReply, 502}},
		{"HTML with status 200", html("200"),
			unknown(codes.Internal, 502), want{codes.Internal, apierror.UpstreamReply, 502}},
	} {
		for _, call := range []struct {
			kind, method string
			want         want
			once         bool
		}{{"write", openMethod, test.write, true}, {"read", getMethod, test.read, false}} {
			t.Run(test.name+", "+call.kind, func(t *testing.T) {
				upstream := serveRaw(t, test.answer)
				err := open(t, upstream.Addr().String(), call.method)
				checkOutcome(t, err, call.want.code, call.want.reason, call.want.http)
				if n := upstream.requests.Load(); call.once && n != 1 {
					t.Errorf("the write was sent %d times", n)
				}
			})
		}
	}
}

// TestAResetReadIsRepeated resets the first attempt of a read before or after its header.
func TestAResetReadIsRepeated(t *testing.T) {
	for _, test := range []struct {
		name   string
		header bool
		code   http2.ErrCode
	}{
		{"INTERNAL_ERROR", false, http2.ErrCodeInternal},
		{"CANCEL after a header", true, http2.ErrCodeCancel},
		{"REFUSED_STREAM", false, http2.ErrCodeRefusedStream},
	} {
		t.Run(test.name, func(t *testing.T) {
			var answered atomic.Int32
			upstream := serveRaw(t, func(s rawStream) {
				if answered.Add(1) > 1 {
					s.grpcHeaders()
					s.data(false, "\x00\x00\x00\x00\x00") // an empty message
					s.headers(true, "grpc-status", "0")
					return
				}
				if test.header {
					s.grpcHeaders()
				}
				_ = s.framer.WriteRSTStream(s.id, test.code)
			})
			if err := open(t, upstream.Addr().String(), getMethod); err != nil || upstream.requests.Load() != 2 {
				t.Errorf("%d requests, and %v", upstream.requests.Load(), err)
			}
		})
	}
}

const (
	openMethod = "/meshtrade.wallet.account.v1.AccountService/OpenAccount"
	getMethod  = "/meshtrade.wallet.account.v1.AccountService/GetAccount"
)

// open calls a method with the name of an account.
func open(t *testing.T, address, method string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var request proto.Message = &accountv1.OpenAccountRequest{Name: "accounts/01ARZ3NDEKTSV4RRFFQ69G5FAV"}
	if method == getMethod {
		request = &accountv1.GetAccountRequest{Name: "accounts/01ARZ3NDEKTSV4RRFFQ69G5FAV"}
	}
	return dial(t, address, Options{Plaintext: true}).Invoke(ctx, method, request, new(accountv1.Account))
}

func checkOutcome(t *testing.T, err error, code codes.Code, reason apierror.Reason, httpStatus int) {
	t.Helper()
	st, ok := status.FromError(err)
	if !ok || st.Code() != code || apierror.HTTPStatusOf(err) != httpStatus {
		t.Fatalf("%s with HTTP status %d, want %s with %d: %v", st.Code(), apierror.HTTPStatusOf(err), code, httpStatus, err)
	}
	if got := reasonOf(st); got != reason {
		t.Fatalf("reason %q, want %q: %s", got, reason, st.Message())
	}
	if reason == "" {
		return
	}
	metadata := infoOf(st).GetMetadata()
	if metadata["sent"] != "true" {
		t.Errorf("sent is %q, and it was sent", metadata["sent"])
	}
	for _, internal := range []string{"ledger.go", "connect error", "html", "127.0.0.1", "RST_STREAM"} {
		if strings.Contains(st.Message(), internal) {
			t.Errorf("the message contains %q: %s", internal, st.Message())
		}
	}
	if apierror.CauseOf(err) == nil {
		t.Error("there is no cause for the log")
	}
	if reason != apierror.OutcomeUnknown {
		return
	}
	const path = "/v1/accounts/01ARZ3NDEKTSV4RRFFQ69G5FAV"
	if metadata["lookup_rpc"] != getMethod || metadata["lookup_path"] != path || !strings.Contains(st.Message(), "GET "+path+" (GetAccount)") {
		t.Errorf("it does not say how to look: %s %v", st.Message(), metadata)
	}
}

func infoOf(st *status.Status) *errdetails.ErrorInfo {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == apierror.Domain {
			return info
		}
	}
	return nil
}

// TestNothingSent has the ways in which a call ends before it is sent.
func TestNothingSent(t *testing.T) {
	for _, test := range []struct {
		name   string
		call   func(*testing.T) error
		reason apierror.Reason
		http   int
	}{
		{"nothing listens", func(t *testing.T) error { return open(t, unusedAddress(t), openMethod) }, apierror.UpstreamUnreachable, http.StatusServiceUnavailable},
		{"the connection is closed at once", func(t *testing.T) error {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					_ = conn.Close()
				}
			}()
			return open(t, listener.Addr().String(), openMethod)
		}, apierror.UpstreamUnreachable, http.StatusServiceUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.call(t)
			st, _ := status.FromError(err)
			if got := reasonOf(st); got != test.reason || apierror.HTTPStatusOf(err) != test.http {
				t.Fatalf("reason %s and %d, want %s and %d: %v", got, apierror.HTTPStatusOf(err), test.reason, test.http, err)
			}
			if infoOf(st).GetMetadata()["sent"] != "false" || !strings.Contains(st.Message(), "Nothing was sent") {
				t.Errorf("it does not say that nothing was sent: %s %v", st.Message(), infoOf(st).GetMetadata())
			}
		})
	}
}

// TestUpstreamStatusIsBounded has statuses of an upstream that are too large to be passed on.
func TestUpstreamStatusIsBounded(t *testing.T) {
	text := strings.Repeat("x", maxMessage-1) + "é"
	details, err := status.New(codes.NotFound, "no").WithDetails(
		wrapperspb.String(strings.Repeat("y", maxDetails/2)), wrapperspb.String("small"), wrapperspb.String(strings.Repeat("z", maxDetails/2)))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name          string
		status        *status.Status
		text, details int
	}{
		{"a text of the limit", status.New(codes.NotFound, text[:maxMessage-1]), maxMessage - 1, 0},
		{"a longer text ends between characters", status.New(codes.NotFound, text), maxMessage - 1, 0},
		{"details beyond the limit", details, 2, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := answer(operation{}, test.status)
			got, ok := status.FromError(err)
			if _, own := errors.AsType[*apierror.Error](err); !ok || own || len(got.Message()) != test.text || len(got.Details()) != test.details {
				t.Errorf("%d bytes and %d details, want %d and %d", len(got.Message()), len(got.Details()), test.text, test.details)
			}
		})
	}
}
