package sandbox_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
)

// newClient makes a client of the corporate group, whose authority is the
// broker's client, and takes it to a state of its verification.
func newClient(t *testing.T, m mesh, state clientv1.VerificationStatus) *clientv1.Client {
	t.Helper()
	service := clientv1.NewClientServiceClient(m)
	owner, authority := m.as(t, "Corporate Admin"), m.as(t, "Broker Admin")
	client, err := service.CreateClient(owner, &clientv1.CreateClientRequest{Client: &clientv1.Client{
		Owner: m.seeded["Corporate Admin"].Group, DisplayName: "Client", VerificationStatus: clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED}})
	wantCode(t, err, codes.OK)
	if state == clientv1.VerificationStatus_VERIFICATION_STATUS_NOT_STARTED {
		return client
	}
	client, err = service.StartClientVerification(owner, &clientv1.StartClientVerificationRequest{Client: client.GetName()})
	wantCode(t, err, codes.OK)
	switch state {
	case clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED:
		client, err = service.MarkClientVerified(authority, &clientv1.MarkClientVerifiedRequest{Client: client.GetName()})
	case clientv1.VerificationStatus_VERIFICATION_STATUS_FAILED:
		client, err = service.FailClientVerification(authority, &clientv1.FailClientVerificationRequest{Client: client.GetName(), Comments: []string{"No proof.", "No date."}})
	}
	wantCode(t, err, codes.OK)
	return client
}

func TestClientIsCreatedUnverified(t *testing.T) {
	m := newMesh(t)
	client := newClient(t, m, clientv1.VerificationStatus_VERIFICATION_STATUS_NOT_STARTED)
	if client.GetVerificationStatus() != clientv1.VerificationStatus_VERIFICATION_STATUS_NOT_STARTED {
		t.Errorf("what the caller sent was taken: %s", client.GetVerificationStatus())
	}
	if client.GetVerificationAuthorityDisplayName() != "Harbour Brokers" || client.GetCreationDate() == nil {
		t.Errorf("the server's fields are not set: %v", client)
	}
	_, err := clientv1.NewClientServiceClient(m).CreateClient(m.as(t, "Broker Admin"), &clientv1.CreateClientRequest{Client: &clientv1.Client{
		Owner: m.seeded["Corporate Admin"].Group, DisplayName: "Elsewhere", VerificationStatus: 1}})
	wantCode(t, err, codes.PermissionDenied)
}

// TestKindsOfClients creates a client of each kind of legal entity.
func TestKindsOfClients(t *testing.T) {
	m := newMesh(t)
	group := m.seeded["Corporate Admin"].Group
	for name, client := range map[string]*clientv1.Client{
		"natural person": {LegalPerson: &clientv1.Client_NaturalPerson{NaturalPerson: &clientv1.NaturalPerson{FullName: "Ada Hart", CountryOfCitizenship: "ZA"}}},
		"company":        {LegalPerson: &clientv1.Client_Company{Company: &clientv1.Company{RegisteredName: "Hart Ltd"}}},
		"fund":           {LegalPerson: &clientv1.Client_Fund{Fund: &clientv1.Fund{RegisteredName: "Hart Fund"}}},
		"trust":          {LegalPerson: &clientv1.Client_Trust{Trust: &clientv1.Trust{RegisteredName: "Hart Trust"}}},
	} {
		t.Run(name, func(t *testing.T) {
			client.Owner, client.DisplayName, client.VerificationStatus = group, "Hart", 1
			created, err := clientv1.NewClientServiceClient(m).CreateClient(m.as(t, "Corporate Admin"), &clientv1.CreateClientRequest{Client: client})
			wantCode(t, err, codes.OK)
			want := proto.CloneOf(client)
			want.Name, want.Owners, want.CreationDate, want.Status = created.GetName(), created.GetOwners(), created.GetCreationDate(), created.GetStatus()
			want.VerificationAuthority, want.VerificationAuthorityDisplayName = created.GetVerificationAuthority(), "Harbour Brokers"
			if !proto.Equal(created, want) {
				t.Errorf("%v, want %v", created, want)
			}
		})
	}
}

// TestClientVerification takes each step from each state, as the owner, the
// authority and a stranger who sees the client.
func TestClientVerification(t *testing.T) {
	const (
		notStarted = clientv1.VerificationStatus_VERIFICATION_STATUS_NOT_STARTED
		pending    = clientv1.VerificationStatus_VERIFICATION_STATUS_PENDING
		verified   = clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED
		failed     = clientv1.VerificationStatus_VERIFICATION_STATUS_FAILED

		ok    = codes.OK
		state = codes.FailedPrecondition
		never = codes.PermissionDenied
	)
	m := newMesh(t)
	service := clientv1.NewClientServiceClient(m)
	type step func(context.Context, string) (*clientv1.Client, error)
	start := func(ctx context.Context, name string) (*clientv1.Client, error) {
		return service.StartClientVerification(ctx, &clientv1.StartClientVerificationRequest{Client: name})
	}
	fail := func(ctx context.Context, name string) (*clientv1.Client, error) {
		return service.FailClientVerification(ctx, &clientv1.FailClientVerificationRequest{Client: name, Comments: []string{"No."}})
	}
	mark := func(ctx context.Context, name string) (*clientv1.Client, error) {
		return service.MarkClientVerified(ctx, &clientv1.MarkClientVerifiedRequest{Client: name})
	}
	for _, test := range []struct {
		name string
		step step
		from clientv1.VerificationStatus
		to   clientv1.VerificationStatus
		// What the owner, the authority and a stranger are told.
		owner, authority, stranger codes.Code
	}{
		{"start", start, notStarted, pending, ok, ok, never},
		{"start", start, failed, pending, ok, ok, never},
		{"start", start, pending, pending, state, state, never},
		{"start", start, verified, verified, state, state, never},
		{"fail", fail, notStarted, notStarted, never, state, never},
		{"fail", fail, failed, failed, never, state, never},
		{"fail", fail, pending, failed, never, ok, never},
		{"fail", fail, verified, verified, never, state, never},
		{"mark verified", mark, notStarted, notStarted, never, state, never},
		{"mark verified", mark, failed, failed, never, state, never},
		{"mark verified", mark, pending, verified, never, ok, never},
		{"mark verified", mark, verified, verified, never, state, never},
	} {
		for caller, want := range map[string]codes.Code{"Corporate Admin": test.owner, "Broker Admin": test.authority, "Root Admin": test.stranger} {
			t.Run(test.name+" from "+test.from.String()+" by "+caller, func(t *testing.T) {
				client := newClient(t, m, test.from)
				_, err := test.step(m.as(t, caller), client.GetName())
				wantCode(t, err, want)
				after, err := service.GetClient(m.as(t, "Root Admin"), &clientv1.GetClientRequest{Name: client.GetName()})
				wantCode(t, err, codes.OK)
				to := test.from
				if want == codes.OK {
					to = test.to
				}
				if after.GetVerificationStatus() != to {
					t.Errorf("it is %s then, want %s", after.GetVerificationStatus(), to)
				}
			})
		}
	}
}

func TestFailingAClientNeedsComments(t *testing.T) {
	m := newMesh(t)
	client := newClient(t, m, clientv1.VerificationStatus_VERIFICATION_STATUS_PENDING)
	service := clientv1.NewClientServiceClient(m)
	_, err := service.FailClientVerification(m.as(t, "Broker Admin"), &clientv1.FailClientVerificationRequest{Client: client.GetName()})
	wantCode(t, err, codes.InvalidArgument)
	long := strings.Repeat("é", 1000)
	client, err = service.FailClientVerification(m.as(t, "Broker Admin"), &clientv1.FailClientVerificationRequest{Client: client.GetName(), Comments: []string{"First", long}})
	wantCode(t, err, codes.OK)
	if reason := []rune(client.GetVerificationStatusReason()); len(reason) != 1000 || !strings.HasPrefix(string(reason), "First\né") {
		t.Errorf("the reason has %d characters: %.20s", len(reason), string(reason))
	}
}

func TestVerificationDates(t *testing.T) {
	// The contract compares a date that is given with the real time.
	now := time.Now().UTC().Truncate(time.Second)
	days := func(n int) *timestamppb.Timestamp { return timestamppb.New(now.AddDate(0, 0, n)) }
	for _, test := range []struct {
		name string
		// verified and next are the dates that the client has, if it was verified before.
		verified, next *timestamppb.Timestamp
		given, want    *timestamppb.Timestamp
		code           codes.Code
	}{
		{"none given: a year on", nil, nil, nil, timestamppb.New(now.AddDate(1, 0, 0)), codes.OK},
		{"as given", nil, nil, days(40), days(40), codes.OK},
		{"in the past", nil, nil, days(-1), nil, codes.InvalidArgument},
		{"after both dates", days(-400), days(-35), days(40), days(40), codes.OK},
		{"the present next date", days(-300), days(65), days(65), nil, codes.InvalidArgument},
		{"before the present next date", days(-300), days(65), days(40), nil, codes.InvalidArgument},
		{"before the present verification date", days(50), nil, days(40), nil, codes.InvalidArgument},
		{"none given, before the present next date", days(-300), days(500), nil, timestamppb.New(now.AddDate(1, 0, 0)), codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMesh(t, sandbox.WithTime(func() time.Time { return now }))
			service, authority := clientv1.NewClientServiceClient(m), m.as(t, "Broker Admin")
			client := newClient(t, m, clientv1.VerificationStatus_VERIFICATION_STATUS_PENDING)
			before, err := service.UpdateClient(authority, &clientv1.UpdateClientRequest{Client: &clientv1.Client{
				Name: client.GetName(), Owner: client.GetOwner(), DisplayName: "Client",
				VerificationStatus: clientv1.VerificationStatus_VERIFICATION_STATUS_PENDING, VerificationDate: test.verified, NextVerificationDate: test.next}})
			wantCode(t, err, codes.OK)
			got, err := service.MarkClientVerified(authority, &clientv1.MarkClientVerifiedRequest{Client: client.GetName(), NextVerificationDate: test.given})
			wantCode(t, err, test.code)
			if err != nil {
				after, err := service.GetClient(authority, &clientv1.GetClientRequest{Name: client.GetName()})
				wantCode(t, err, codes.OK)
				if !proto.Equal(after, before) {
					t.Errorf("the refusal changed it to %v", after)
				}
				return
			}
			if !proto.Equal(got.GetNextVerificationDate(), test.want) || !got.GetVerificationDate().AsTime().Equal(now) {
				t.Errorf("verified on %s, next on %s", got.GetVerificationDate().AsTime(), got.GetNextVerificationDate().AsTime())
			}
		})
	}
}

// TestUpdateClient changes a client in each state, by its owner, its authority and a stranger that sees
// it, with all fields set that the server or the authority sets.
func TestUpdateClient(t *testing.T) {
	m := newMesh(t)
	service := clientv1.NewClientServiceClient(m)
	at := timestamppb.New(time.Date(2031, time.May, 1, 0, 0, 0, 0, time.UTC))
	for _, test := range []struct {
		state            clientv1.VerificationStatus
		owner, authority codes.Code
	}{
		{clientv1.VerificationStatus_VERIFICATION_STATUS_NOT_STARTED, codes.OK, codes.PermissionDenied},
		{clientv1.VerificationStatus_VERIFICATION_STATUS_FAILED, codes.OK, codes.PermissionDenied},
		{clientv1.VerificationStatus_VERIFICATION_STATUS_PENDING, codes.PermissionDenied, codes.OK},
		{clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED, codes.PermissionDenied, codes.OK},
	} {
		for caller, code := range map[string]codes.Code{"Corporate Admin": test.owner, "Broker Admin": test.authority, "Root Admin": codes.PermissionDenied} {
			t.Run(test.state.String()+" by "+caller, func(t *testing.T) {
				client := newClient(t, m, test.state)
				changed, err := service.UpdateClient(m.as(t, caller), &clientv1.UpdateClientRequest{Client: &clientv1.Client{
					Name: client.GetName(), Owner: m.seeded["Broker Admin"].Group, Owners: []string{nobody}, DisplayName: "Renamed",
					VerificationStatus: clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED, VerificationStatusReason: "Reviewed.",
					VerificationAuthority: client.GetName(), VerificationDate: at, NextVerificationDate: at}})
				wantCode(t, err, code)
				if err != nil {
					return
				}
				want := proto.CloneOf(client)
				want.DisplayName = "Renamed"
				if caller == "Broker Admin" {
					want.VerificationStatus, want.VerificationStatusReason = clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED, "Reviewed."
					want.VerificationAuthority, want.VerificationDate, want.NextVerificationDate = client.GetName(), at, at
				}
				if !proto.Equal(changed, want) {
					t.Errorf("got %v\nwant %v", changed, want)
				}
			})
		}
	}
	t.Run("a list that is set replaces, one that is not stays", func(t *testing.T) {
		client := newClient(t, m, clientv1.VerificationStatus_VERIFICATION_STATUS_NOT_STARTED)
		update := func(roles ...int32) *clientv1.Client {
			changed, err := service.UpdateClient(m.as(t, "Corporate Admin"), &clientv1.UpdateClientRequest{Client: &clientv1.Client{
				Name: client.GetName(), Owner: client.GetOwner(), DisplayName: "Client", VerificationStatus: 1, Roles: roles}})
			wantCode(t, err, codes.OK)
			return changed
		}
		update(1, 2)
		if got := update(3).GetRoles(); len(got) != 1 || got[0] != 3 {
			t.Errorf("roles are %v", got)
		}
		if got := update().GetRoles(); len(got) != 1 {
			t.Errorf("roles are %v", got)
		}
	})
}

// TestPeriodicReview plays the review of a verified client from its start to its end.
func TestPeriodicReview(t *testing.T) {
	now := time.Now().UTC()
	m := newMesh(t, sandbox.WithTime(func() time.Time { return now }))
	service := clientv1.NewClientServiceClient(m)
	owner, authority := m.as(t, "Corporate Admin"), m.as(t, "Broker Admin")
	client := newClient(t, m, clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED)
	now = now.AddDate(1, 0, 1) // the next verification is due
	update := func(ctx context.Context, name string, status clientv1.VerificationStatus) (*clientv1.Client, error) {
		return service.UpdateClient(ctx, &clientv1.UpdateClientRequest{Client: &clientv1.Client{
			Name: client.GetName(), Owner: client.GetOwner(), DisplayName: name, VerificationStatus: status, VerificationStatusReason: "Periodic review."}})
	}
	const (
		pending  = clientv1.VerificationStatus_VERIFICATION_STATUS_PENDING
		verified = clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED
		failed   = clientv1.VerificationStatus_VERIFICATION_STATUS_FAILED
	)
	for _, step := range []struct {
		name string
		do   func() (*clientv1.Client, error)
		code codes.Code
		want clientv1.VerificationStatus
	}{
		{"the owner cannot start it", func() (*clientv1.Client, error) { return update(owner, "Client", pending) }, codes.PermissionDenied, verified},
		{"the authority starts it", func() (*clientv1.Client, error) { return update(authority, "Client", pending) }, codes.OK, pending},
		{"the authority finds a fault", func() (*clientv1.Client, error) {
			return service.FailClientVerification(authority, &clientv1.FailClientVerificationRequest{Client: client.GetName(), Comments: []string{"The address is old."}})
		}, codes.OK, failed},
		{"the owner corrects it", func() (*clientv1.Client, error) { return update(owner, "Client, moved", verified) }, codes.OK, failed},
		{"the owner submits it again", func() (*clientv1.Client, error) {
			return service.StartClientVerification(owner, &clientv1.StartClientVerificationRequest{Client: client.GetName()})
		}, codes.OK, pending},
		{"the authority verifies it", func() (*clientv1.Client, error) {
			return service.MarkClientVerified(authority, &clientv1.MarkClientVerifiedRequest{Client: client.GetName(), NextVerificationDate: timestamppb.New(now.AddDate(2, 0, 0))})
		}, codes.OK, verified},
	} {
		t.Run(step.name, func(t *testing.T) {
			_, err := step.do()
			wantCode(t, err, step.code)
			got, err := service.GetClient(authority, &clientv1.GetClientRequest{Name: client.GetName()})
			wantCode(t, err, codes.OK)
			if got.GetVerificationStatus() != step.want {
				t.Errorf("it is %s, want %s", got.GetVerificationStatus(), step.want)
			}
			client = got
		})
	}
	if client.GetDisplayName() != "Client, moved" || !client.GetVerificationDate().AsTime().Equal(now) || !client.GetNextVerificationDate().AsTime().Equal(now.AddDate(2, 0, 0)) {
		t.Errorf("after the review it is %v", client)
	}
}

func TestClientOfAGroup(t *testing.T) {
	m := newMesh(t)
	group := func(caller string) string {
		created, err := groupv1.NewGroupServiceClient(m).CreateGroup(m.as(t, caller), &groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: m.seeded[caller].Group, DisplayName: "Desk"}})
		wantCode(t, err, codes.OK)
		return created.GetName()
	}
	for _, test := range []struct {
		name, caller, group, want string
		code                      codes.Code
	}{
		{"its own", "Corporate Admin", m.seeded["Corporate Admin"].Group, "Lighthouse Trading", codes.OK},
		{"of a group below", "Broker Admin", m.seeded["Corporate Admin"].Group, "Lighthouse Trading", codes.OK},
		{"not that of the group above it", "Broker Admin", group("Corporate Admin"), "", codes.NotFound},
		{"none at the root", "Root Admin", m.seeded["Root Admin"].Group, "", codes.NotFound},
		{"not of a group above", "Corporate Admin", m.seeded["Broker Admin"].Group, "", codes.NotFound},
		{"not of one that does not exist", "Root Admin", nobody, "", codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, err := clientv1.NewClientServiceClient(m).GetGroupClient(m.as(t, test.caller), &clientv1.GetGroupClientRequest{Group: test.group})
			wantCode(t, err, test.code)
			if client.GetDisplayName() != test.want {
				t.Errorf("it is %q", client.GetDisplayName())
			}
		})
	}
}

func TestClientsSeenFromAGroup(t *testing.T) {
	m := newMesh(t)
	for caller, want := range map[string]int{"Root Admin": 5, "Broker Admin": 5, "Corporate Admin": 1, "Individual Admin": 3} {
		t.Run(caller, func(t *testing.T) {
			list, err := clientv1.NewClientServiceClient(m).ListClients(m.as(t, caller), &clientv1.ListClientsRequest{})
			wantCode(t, err, codes.OK)
			if got := len(list.GetClients()); got != want {
				t.Errorf("%d are seen, want %d", got, want)
			}
		})
	}
}
