package sandbox_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
)

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		fault   string
		want    codes.Code
		created bool
	}{
		{"unavailable", codes.Unavailable, false},
		{"exhausted", codes.ResourceExhausted, false},
		{"slow=1ms", codes.OK, true},
		{"deadline", codes.DeadlineExceeded, false},
		{"drop-after-send", codes.Unavailable, true},
		{"slow", codes.InvalidArgument, false},
		{"slow=-1s", codes.InvalidArgument, false},
		{"slow=2m", codes.InvalidArgument, false},
		{"sleepy", codes.InvalidArgument, false},
	} {
		t.Run(test.fault, func(t *testing.T) {
			m := newMesh(t)
			admin := m.as(t, "Broker Admin")
			ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(admin, "x-sandbox-fault", test.fault), 200*time.Millisecond)
			defer cancel()
			_, err := groupv1.NewGroupServiceClient(m).CreateGroup(ctx, &groupv1.CreateGroupRequest{
				Group: &groupv1.Group{Owner: m.seeded["Broker Admin"].Group, DisplayName: "Faulty"}})
			wantCode(t, err, test.want)
			found, err := groupv1.NewGroupServiceClient(m).SearchGroups(admin, &groupv1.SearchGroupsRequest{DisplayName: "Faulty"})
			wantCode(t, err, codes.OK)
			if got := len(found.GetGroups()) == 1; got != test.created {
				t.Errorf("the group was made: %t, want %t", got, test.created)
			}
		})
	}
}

// TestADroppedCallBreaksNoOther has a stream open on the connection that the call is made on.
func TestADroppedCallBreaksNoOther(t *testing.T) {
	m := newStanding(t)
	client, request := transactionv1.NewTransactionServiceClient(m), &transactionv1.MonitorTransactionStateRequest{Name: m.open(t)}
	stream, err := client.MonitorTransactionState(m.as(t, "Broker Admin"), request)
	wantCode(t, err, codes.OK)
	_, err = stream.Recv()
	wantCode(t, err, codes.OK)
	dropping := metadata.AppendToOutgoingContext(m.as(t, "Broker Admin"), "x-sandbox-fault", "drop-after-send")
	_, err = groupv1.NewGroupServiceClient(m).ListGroups(dropping, new(groupv1.ListGroupsRequest))
	wantCode(t, err, codes.Unavailable)
	dropped, err := client.MonitorTransactionState(dropping, request)
	wantCode(t, err, codes.OK)
	_, err = dropped.Recv()
	wantCode(t, err, codes.OK)
	m.tick(t, 1)
	_, err = dropped.Recv()
	wantCode(t, err, codes.Unavailable)
	m.tick(t, 3)
	if states := drain(t, stream); len(states) != 4 {
		t.Errorf("the stream got %v", states)
	}
}

func TestASlowCallTakesItsTime(t *testing.T) {
	m := newMesh(t)
	const delay = 50 * time.Millisecond
	start := time.Now()
	_, err := groupv1.NewGroupServiceClient(m).ListGroups(metadata.AppendToOutgoingContext(m.as(t, "Broker Admin"), "x-sandbox-fault", "slow=50ms"), &groupv1.ListGroupsRequest{})
	wantCode(t, err, codes.OK)
	if took := time.Since(start); took < delay {
		t.Errorf("it took %s", took)
	}
}

func TestAStreamDropsAfterItsFirstMessage(t *testing.T) {
	m := newStanding(t)
	stream, err := transactionv1.NewTransactionServiceClient(m).MonitorTransactionState(
		metadata.AppendToOutgoingContext(m.as(t, "Broker Admin"), "x-sandbox-fault", "drop-after-send"),
		&transactionv1.MonitorTransactionStateRequest{Name: m.open(t)})
	wantCode(t, err, codes.OK)
	_, err = stream.Recv()
	wantCode(t, err, codes.OK)
	m.tick(t, 1)
	_, err = stream.Recv()
	wantCode(t, err, codes.Unavailable)
}
