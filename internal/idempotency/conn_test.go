package idempotency_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// line is a connection with a Keeper to an upstream that records calls.
type line struct {
	*idempotency.Conn
	mesh *meshtest.Upstream
}

func newLine(t *testing.T, required bool) line {
	t.Helper()
	mesh := meshtest.NewUpstream(t)
	pool, err := upstream.Dial(mesh.Target, upstream.Options{Plaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	keeper := idempotency.NewKeeper(memstore.New(memstore.DefaultLimits()), slog.New(slog.DiscardHandler))
	conn, err := idempotency.NewConn(pool, keeper, required)
	if err != nil {
		t.Fatal(err)
	}
	return line{conn, mesh}
}

// create creates a transfer and reports whether the answer was replayed.
func (l line) create(t *testing.T, amount string, md ...string) (reply *transferv1.Transfer, replayed bool, err error) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), md...)
	var header metadata.MD
	reply = new(transferv1.Transfer)
	err = l.Invoke(ctx, createTransfer, transferOf(amount), reply, grpc.Header(&header))
	return reply, len(header.Get("idempotent-replayed")) > 0, err
}

var caller = []string{"x-api-key", apiKey, "x-group", group}

func withKey(key string) []string {
	return append(caller[:len(caller):len(caller)], "idempotency-key", key)
}

// answerNumber has the upstream answer the n-th call with a transfer of number n.
func (l line) answerNumber() {
	n := 0
	l.mesh.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) {
		n++
		return []proto.Message{&transferv1.Transfer{Number: string(rune('0' + n))}}, nil
	})
}

func TestConnReplaysTheAnswer(t *testing.T) {
	l := newLine(t, false)
	l.answerNumber()
	for i, want := range []struct {
		number   string
		replayed bool
	}{{"1", false}, {"1", true}, {"1", true}} {
		reply, replayed, err := l.create(t, "1", withKey("a")...)
		if err != nil || reply.GetNumber() != want.number || replayed != want.replayed {
			t.Errorf("request %d: number %s, replayed %t, %v; want %+v", i, reply.GetNumber(), replayed, err, want)
		}
	}
	calls := l.mesh.Calls()
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	if got := calls[0].Metadata; len(got.Get("idempotency-key")) > 0 || got.Get("x-api-key")[0] != apiKey {
		t.Errorf("metadata %v", got)
	}
}

func TestConnReplaysARefusal(t *testing.T) {
	l := newLine(t, false)
	l.mesh.Fail(status.New(codes.FailedPrecondition, "the account is closed"))
	_, first, err := l.create(t, "1", withKey("a")...)
	_, second, again := l.create(t, "1", withKey("a")...)
	if status.Code(err) != codes.FailedPrecondition || first || status.Code(again) != codes.FailedPrecondition || !second || status.Convert(again).Message() != "the account is closed" {
		t.Errorf("%v, replayed %t; then %v, replayed %t", err, first, again, second)
	}
	if calls := len(l.mesh.Calls()); calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

// TestConnKeepsTheKey has outcomes after which a request with the same key must not be sent.
func TestConnKeepsTheKey(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(protoreflect.MethodDescriptor) ([]proto.Message, error)
		first  int // HTTP status
	}{
		{"UNAVAILABLE", fails(codes.Unavailable), http.StatusServiceUnavailable},
		{"INTERNAL", fails(codes.Internal), http.StatusInternalServerError},
		{"ABORTED", fails(codes.Aborted), http.StatusConflict},
		{"no message", func(protoreflect.MethodDescriptor) ([]proto.Message, error) { return nil, nil }, http.StatusBadGateway},
		{"a malformed message", func(protoreflect.MethodDescriptor) ([]proto.Message, error) {
			broken := new(transferv1.Transfer)
			broken.ProtoReflect().SetUnknown([]byte{0x0a, 0x05, 'x'})
			return []proto.Message{broken}, nil
		}, http.StatusBadGateway},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLine(t, false)
			l.mesh.Answer(test.answer)
			if _, _, err := l.create(t, "1", withKey("a")...); apierror.HTTPStatusOf(err) != test.first {
				t.Errorf("first: %d, want %d: %v", apierror.HTTPStatusOf(err), test.first, err)
			}
			_, _, err := l.create(t, "1", withKey("a")...)
			if apierror.HTTPStatusOf(err) != http.StatusConflict {
				t.Errorf("second: %d %v", apierror.HTTPStatusOf(err), err)
			}
			if calls := len(l.mesh.Calls()); calls != 1 {
				t.Errorf("%d calls", calls)
			}
		})
	}
}

// TestConnReleasesTheKey has outcomes after which the request can be sent again.
func TestConnReleasesTheKey(t *testing.T) {
	for _, code := range []codes.Code{codes.Unauthenticated, codes.ResourceExhausted} {
		t.Run(code.String(), func(t *testing.T) {
			l := newLine(t, false)
			l.mesh.Fail(status.New(code, "not now"))
			if _, _, err := l.create(t, "1", withKey("a")...); status.Code(err) != code {
				t.Error(err)
			}
			l.answerNumber()
			if _, replayed, err := l.create(t, "1", withKey("a")...); err != nil || replayed {
				t.Errorf("replayed %t, %v", replayed, err)
			}
		})
	}
	t.Run("the upstream cannot be reached", func(t *testing.T) {
		l := newLine(t, false)
		unreachable, err := upstream.Dial("127.0.0.1:1", upstream.Options{Plaintext: true})
		if err != nil {
			t.Fatal(err)
		}
		defer unreachable.Close()
		keeper := idempotency.NewKeeper(memstore.New(memstore.DefaultLimits()), slog.New(slog.DiscardHandler))
		for range 2 {
			conn, err := idempotency.NewConn(unreachable, keeper, false)
			if err != nil {
				t.Fatal(err)
			}
			l.Conn = conn
			if _, _, err := l.create(t, "1", withKey("a")...); apierror.ReasonOf(err) != string(apierror.UpstreamUnreachable) {
				t.Error(err)
			}
		}
	})
}

func TestConnWithoutAKey(t *testing.T) {
	for _, test := range []struct {
		name     string
		required bool
		md       []string
		want     int // HTTP status, 200 for a call that is made
	}{
		{"a key is optional", false, caller, http.StatusOK},
		{"a key is required", true, caller, http.StatusBadRequest},
		{"a key is not required without an API key", true, nil, http.StatusOK},
		{"a key cannot be used without an API key", false, []string{"idempotency-key", "a"}, http.StatusBadRequest},
		{"a malformed key", false, withKey(`"a`), http.StatusBadRequest},
		{"two keys", false, append(withKey("a"), "idempotency-key", "b"), http.StatusBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLine(t, test.required)
			_, _, err := l.create(t, "1", test.md...)
			got, calls := http.StatusOK, 1
			if err != nil {
				got, calls = apierror.HTTPStatusOf(err), 0
			}
			if got != test.want || len(l.mesh.Calls()) != calls {
				t.Errorf("%d after %d calls, want %d: %v", got, len(l.mesh.Calls()), test.want, err)
			}
		})
	}
}

func TestConnRefusesAnotherRequest(t *testing.T) {
	l := newLine(t, false)
	if _, _, err := l.create(t, "1", withKey("a")...); err != nil {
		t.Fatal(err)
	}
	_, _, err := l.create(t, "2", withKey("a")...)
	if apierror.HTTPStatusOf(err) != http.StatusUnprocessableEntity || len(l.mesh.Calls()) != 1 {
		t.Errorf("%d after %d calls: %v", apierror.HTTPStatusOf(err), len(l.mesh.Calls()), err)
	}
}

// TestConnFinishesWhatItsClientLeft has a client that leaves while its call is under way. The
// answer is there when it comes back.
func TestConnFinishesWhatItsClientLeft(t *testing.T) {
	l := newLine(t, false)
	entered, release := make(chan struct{}), make(chan struct{})
	l.mesh.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) {
		close(entered)
		<-release
		return []proto.Message{&transferv1.Transfer{Number: "7"}}, nil
	})
	ctx, leave := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), withKey("a")...))
	done := make(chan error)
	go func() { done <- l.Invoke(ctx, createTransfer, transferOf("1"), new(transferv1.Transfer)) }()
	<-entered
	leave()
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	reply, replayed, err := l.create(t, "1", withKey("a")...)
	if err != nil || !replayed || reply.GetNumber() != "7" {
		t.Errorf("number %s, replayed %t, %v", reply.GetNumber(), replayed, err)
	}
}

func fails(code codes.Code) func(protoreflect.MethodDescriptor) ([]proto.Message, error) {
	return func(protoreflect.MethodDescriptor) ([]proto.Message, error) { return nil, status.Error(code, "failed") }
}
