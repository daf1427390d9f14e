package policy_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/policy"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
)

func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := policy.NewKeys()
		if keys.Known(sha256.Sum256([]byte("a"))) || keys.Known(sha256.Sum256([]byte(""))) {
			t.Error("known from the beginning")
		}
		keys.Accepted(sha256.Sum256([]byte("a")))
		keys.Accepted(sha256.Sum256([]byte("b")))
		keys.Rejected(sha256.Sum256([]byte("b")))
		time.Sleep(5*time.Minute - 1)
		if !keys.Known(sha256.Sum256([]byte("a"))) || keys.Known(sha256.Sum256([]byte("b"))) {
			t.Errorf("a is known: %t, b: %t", keys.Known(sha256.Sum256([]byte("a"))), keys.Known(sha256.Sum256([]byte("b"))))
		}
		time.Sleep(time.Nanosecond)
		if keys.Known(sha256.Sum256([]byte("a"))) {
			t.Error("known after five minutes")
		}
		for i := range 100_000 {
			keys.Accepted(sha256.Sum256([]byte(fmt.Sprint(i))))
		}
		known := 0
		for i := range 100_000 {
			if keys.Known(sha256.Sum256([]byte(fmt.Sprint(i)))) {
				known++
			}
		}
		if known > 65536 || known < 60000 {
			t.Errorf("%d keys are known, want up to 65536", known)
		}
	})
}

// mesh answers every call with an error, which may be nil.
type mesh struct {
	grpc.ClientConnInterface
	err   error
	calls []string
}

func (m *mesh) Invoke(ctx context.Context, method string, args, _ any, _ ...grpc.CallOption) error {
	md, _ := metadata.FromOutgoingContext(ctx)
	wire, err := proto.Marshal(args.(proto.Message))
	request := new(groupv1.GetGroupRequest)
	if err == nil {
		err = proto.Unmarshal(wire, request)
	}
	if err != nil {
		return err
	}
	m.calls = append(m.calls, fmt.Sprint(method, " ", request.GetName(), md["x-api-key"], md["x-group"], md["x-request-id"]))
	return m.err
}

func TestVouch(t *testing.T) {
	header := http.Header{"X-Api-Key": {keyOf("a")}, "X-Group": {group}, "X-Request-Id": {"id"}}
	for _, test := range []struct {
		mesh codes.Code
		want codes.Code
	}{
		{codes.OK, codes.OK},
		{codes.PermissionDenied, codes.OK},
		{codes.NotFound, codes.OK},
		{codes.InvalidArgument, codes.OK},
		{codes.Unauthenticated, codes.Unauthenticated},
		{codes.Unavailable, codes.Unavailable},
		{codes.DeadlineExceeded, codes.Unavailable},
		{codes.Internal, codes.Unavailable},
		{codes.Unimplemented, codes.Unavailable},
	} {
		t.Run(test.mesh.String(), func(t *testing.T) {
			keys, upstream := policy.NewKeys(), &mesh{err: status.Error(test.mesh, "")}
			for range 2 {
				if err := keys.Vouch(t.Context(), upstream, header); status.Code(err) != test.want {
					t.Errorf("%v, want %s", err, test.want)
				}
			}
			calls := 2
			if test.want == codes.OK {
				calls = 1 // known from then on
			}
			want := fmt.Sprint("/meshtrade.iam.group.v1.GroupService/GetGroup ", group, []string{keyOf("a")}, []string{group}, []string{"id"})
			if len(upstream.calls) != calls || upstream.calls[0] != want {
				t.Errorf("%d calls, want %d of %s: %q", len(upstream.calls), calls, want, upstream.calls)
			}
		})
	}
}

// TestTicketsHaveALimit requests tickets at the policy, with keys of one address.
func TestTicketsHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicy(t, func(*policy.Limits) {})
		ask := func(letter string) error {
			_, release, err := p.Admit(t.Context(), call(policy.Rules{Ticket: true}, "192.0.2.1", keyOf(letter)))
			if err == nil {
				release()
			}
			return err
		}
		for i := range 101 {
			if err := ask("a"); (err != nil) != (i == 100) {
				t.Fatalf("ticket %d: %v", i, err)
			}
		}
		admitted := 0
		for _, letter := range []string{"b", "c", "d", "e"} {
			for range 100 {
				if ask(letter) == nil {
					admitted++
				}
			}
		}
		if admitted != 299 { // the refused request has spent one of 400
			t.Errorf("%d tickets for other keys of the address, want 299", admitted)
		}
		time.Sleep(300 * time.Millisecond)
		if err := ask("a"); err != nil {
			t.Errorf("after the time to wait: %v", err)
		}
	})
}
