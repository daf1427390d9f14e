package audit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
)

// mesh answers calls with a group or an error.
type mesh struct {
	grpc.ClientConnInterface

	err      error
	replayed bool
	calls    int
}

func (m *mesh) Invoke(_ context.Context, _ string, _, reply any, opts ...grpc.CallOption) error {
	m.calls++
	var codec encoding.CodecV2
	for _, opt := range opts {
		switch o := opt.(type) {
		case grpc.ForceCodecV2CallOption:
			codec = o.CodecV2
		case grpc.HeaderCallOption:
			if m.replayed {
				*o.HeaderAddr = metadata.Pairs(wire.ReplayedHeader, "true")
			}
		}
	}
	if m.err != nil {
		return m.err
	}
	form, err := proto.Marshal(&groupv1.Group{Name: "groups/new", DisplayName: "New"})
	if err != nil || codec == nil {
		return err
	}
	return codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(form)}, reply)
}

const createGroup = "/meshtrade.iam.group.v1.GroupService/CreateGroup"

func TestOutcomes(t *testing.T) {
	own := apierror.New(codes.Unavailable, apierror.UpstreamUnreachable, "not now")
	for _, test := range []struct {
		name     string
		err      error
		replayed bool
		want     Outcome
		code     string
		reason   string
		resource string
	}{
		{"carried out", nil, false, Done, "OK", "", "groups/new"},
		{"refused by Mesh", status.Error(codes.FailedPrecondition, "no"), false, Refused, "FAILED_PRECONDITION", "", ""},
		{"nothing was sent", own, false, NotSent, "UNAVAILABLE", "UPSTREAM_UNREACHABLE", ""},
		{"an earlier request is in flight", apierror.NewSent(codes.Aborted, apierror.IdempotencyKeyInUse, "wait"), false, NotSent, "ABORTED", "IDEMPOTENCY_KEY_IN_USE", ""},
		{"nobody knows", apierror.Unknown(codes.Unavailable, "lost.", "", ""), false, Unknown, "UNAVAILABLE", "OUTCOME_UNKNOWN", ""},
		{"the answer to an earlier request", nil, true, Replayed, "OK", "", "groups/new"},
		{"the refusal of an earlier request", status.Error(codes.NotFound, "no"), true, Replayed, "NOT_FOUND", "", ""},
		{"a defect", errors.New("lost"), false, NotSent, "INTERNAL", "INTERNAL", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			log, d := open(t, Refuse, io.Discard)
			conn, err := NewConn(&mesh{err: test.err, replayed: test.replayed}, NewRecorder(log, telemetry.New("v1")))
			if err != nil {
				t.Fatal(err)
			}
			ctx := metadata.AppendToOutgoingContext(t.Context(), wire.APIKeyHeader, "the-key", wire.GroupHeader, "groups/a",
				wire.RequestIDHeader, "id-1", wire.IdempotencyKeyHeader, "the-idempotency-key", wire.TraceparentHeader, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
			var header metadata.MD
			got := conn.Invoke(ctx, createGroup, new(groupv1.CreateGroupRequest), new(groupv1.Group), grpc.Header(&header))
			if !errors.Is(got, test.err) {
				t.Errorf("the error is %v", got)
			}
			var line Line
			if err := json.Unmarshal(d.text.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			want := Line{
				Time: line.Time, Caller: hashOf("the-key"), Group: "groups/a", RPC: createGroup, Resource: test.resource, Outcome: test.want, Code: test.code, Reason: test.reason,
				RequestID: "id-1", TraceID: "0af7651916cd43dd8448eb211c80319c", KeyHash: hashOf("the-idempotency-key"),
			}
			if line != want || line.Time.IsZero() {
				t.Errorf("the line is %+v, want %+v", line, want)
			}
		})
	}
}

func TestTheResourceOfTheRequest(t *testing.T) {
	log, d := open(t, Refuse, io.Discard)
	conn, err := NewConn(&mesh{err: status.Error(codes.NotFound, "no")}, NewRecorder(log, telemetry.New("v1")))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Invoke(t.Context(), "/meshtrade.iam.group.v1.GroupService/UpdateGroup", &groupv1.UpdateGroupRequest{Group: &groupv1.Group{Name: "groups/a"}}, new(groupv1.Group))
	var line Line
	if err := json.Unmarshal(d.text.Bytes(), &line); err != nil || line.Resource != "groups/a" {
		t.Errorf("%+v, %v", line, err)
	}
}

func TestReadsAreNotRecorded(t *testing.T) {
	log, d := open(t, Refuse, io.Discard)
	conn, err := NewConn(new(mesh), NewRecorder(log, telemetry.New("v1")))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Invoke(t.Context(), "/meshtrade.iam.group.v1.GroupService/GetGroup", new(groupv1.GetGroupRequest), new(groupv1.Group)); err != nil || d.text.Len() > 0 {
		t.Errorf("%v, %s", err, &d.text)
	}
}

// TestRefuse makes calls while the log cannot be written.
func TestRefuse(t *testing.T) {
	log, d := open(t, Refuse, io.Discard)
	upstream := new(mesh)
	conn, err := NewConn(upstream, NewRecorder(log, telemetry.New("v1")))
	if err != nil {
		t.Fatal(err)
	}
	create := func() error {
		return conn.Invoke(t.Context(), createGroup, new(groupv1.CreateGroupRequest), new(groupv1.Group))
	}
	d.full = true
	if err := create(); err != nil {
		t.Errorf("the call that finds the log broken: %v", err)
	}
	if err := create(); apierror.ReasonOf(err) != string(apierror.AuditUnavailable) || upstream.calls != 1 {
		t.Errorf("%v after %d calls, want a refusal", err, upstream.calls)
	}
	if log.Waiting() != 2 {
		t.Errorf("%d lines wait, want one for each", log.Waiting())
	}
}
