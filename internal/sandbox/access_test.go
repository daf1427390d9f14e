package sandbox_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// TestAccessOrder breaks two checks in a row and expects the refusal of the
// first, by its message where the codes are the same.
func TestAccessOrder(t *testing.T) {
	m := newMesh(t)
	individual := m.seeded["Individual Admin"].Group
	// GetAccountByNumber needs all there is: a key, a group, a role, verification, and a
	// number in its request.
	call := func(ctx context.Context) error {
		_, err := accountv1.NewAccountServiceClient(m).GetAccountByNumber(ctx, &accountv1.GetAccountByNumberRequest{})
		return err
	}
	with := func(pairs ...string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), pairs...)
	}
	for _, test := range []struct {
		name    string
		ctx     context.Context
		code    codes.Code
		message string
	}{
		{"key before group", with("x-group", nobody), codes.Unauthenticated, "API key is missing"},
		{"unknown key before group", with("x-api-key", strings.Repeat("k", 43), "x-group", nobody), codes.Unauthenticated, "key is unknown"},
		{"inactive before group", m.as(t, "Retired", nobody), codes.Unauthenticated, "INACTIVE"},
		{"no group", with("x-api-key", m.seeded["Broker Admin"].APIKey), codes.PermissionDenied, "does not exist"},
		{"group before role", m.as(t, "Roleless", nobody), codes.PermissionDenied, "does not exist"},
		{"role before verification", m.as(t, "Roleless", individual), codes.PermissionDenied, "ROLE_WALLET_ADMIN"},
		{"verification before the request", m.as(t, "Individual Admin"), codes.FailedPrecondition, "NOT_STARTED"},
		{"the request last", m.as(t, "Broker Admin"), codes.InvalidArgument, "account_number"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := call(test.ctx)
			wantCode(t, err, test.code)
			if !strings.Contains(status.Convert(err).Message(), test.message) {
				t.Errorf("%q, want %q in it", status.Convert(err).Message(), test.message)
			}
		})
	}
}

// TestVerificationIsThatOfTheAPIUsersClient acts in groups of verified and unverified clients with API
// users of both.
func TestVerificationIsThatOfTheAPIUsersClient(t *testing.T) {
	m := newMesh(t)
	groups, clients := groupv1.NewGroupServiceClient(m), clientv1.NewClientServiceClient(m)
	below := func(caller string) string {
		group, err := groups.CreateGroup(m.as(t, caller), &groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: m.seeded[caller].Group, DisplayName: "Below"}})
		wantCode(t, err, codes.OK)
		return group.GetName()
	}
	// A verified client below one that is not. The client above is its authority.
	verified := below("Individual Admin")
	above, in := m.as(t, "Individual Admin"), m.as(t, "Individual Admin", verified)
	client, err := clients.CreateClient(in, &clientv1.CreateClientRequest{Client: &clientv1.Client{Owner: verified, DisplayName: "Verified", VerificationStatus: 1}})
	wantCode(t, err, codes.OK)
	_, err = clients.StartClientVerification(in, &clientv1.StartClientVerificationRequest{Client: client.GetName()})
	wantCode(t, err, codes.OK)
	_, err = clients.MarkClientVerified(above, &clientv1.MarkClientVerifiedRequest{Client: client.GetName()})
	wantCode(t, err, codes.OK)
	// An API user in a group without a client, below a verified one.
	desk := below("Corporate Admin")
	users, inDesk := apiuserv1.NewAPIUserServiceClient(m), m.as(t, "Corporate Admin", desk)
	trader, err := users.CreateAPIUser(inDesk, &apiuserv1.CreateAPIUserRequest{ApiUser: &apiuserv1.APIUser{Owner: desk, DisplayName: "Trader", Roles: []string{desk + "/roles/1000001"}}})
	wantCode(t, err, codes.OK)
	_, err = users.ActivateAPIUser(inDesk, &apiuserv1.ActivateAPIUserRequest{Name: trader.GetName()})
	wantCode(t, err, codes.OK)

	for _, test := range []struct {
		name string
		ctx  context.Context
		want codes.Code
	}{
		{"of a verified client, in its own group", m.as(t, "Corporate Admin"), codes.OK},
		{"of a verified client, in a group below without a client", m.as(t, "Corporate Admin", desk), codes.OK},
		{"of a verified client, in the group of one that is not", m.as(t, "Broker Admin", m.seeded["Individual Admin"].Group), codes.OK},
		{"of a client that is not verified, in its own group", above, codes.FailedPrecondition},
		{"of a client that is not verified, in the group of one that is", in, codes.FailedPrecondition},
		{"of no client, in the group of a verified one", m.as(t, "Root Admin", m.seeded["Broker Admin"].Group), codes.FailedPrecondition},
		{"of a group that belongs to the verified client above it", metadata.AppendToOutgoingContext(t.Context(), "x-api-key", trader.GetApiKey(), "x-group", desk), codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := accountv1.NewAccountServiceClient(m).ListAccounts(test.ctx, &accountv1.ListAccountsRequest{})
			wantCode(t, err, test.want)
		})
	}
}

func TestPublicMethods(t *testing.T) {
	m := newMesh(t)
	with := func(pairs ...string) context.Context { return metadata.AppendToOutgoingContext(t.Context(), pairs...) }
	for _, test := range []struct {
		name string
		ctx  context.Context
		want codes.Code
	}{
		{"need no key", t.Context(), codes.OK},
		{"take a valid key without a group", with("x-api-key", m.seeded["Roleless"].APIKey), codes.OK},
		{"ignore a group that does not exist", m.as(t, "Roleless", nobody), codes.OK},
		{"ignore a group that is none", m.as(t, "Roleless", "junk"), codes.OK},
		{"ignore a group without a key", with("x-group", "junk"), codes.OK},
		{"refuse an unknown key", with("x-api-key", strings.Repeat("k", 43)), codes.Unauthenticated},
		{"refuse a malformed key", with("x-api-key", "junk", "x-group", "junk"), codes.Unauthenticated},
		{"refuse an inactive key", m.as(t, "Retired"), codes.Unauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := tokentapv1.NewTokenTapServiceClient(m).ListTokenTaps(test.ctx, &tokentapv1.ListTokenTapsRequest{})
			wantCode(t, err, test.want)
		})
	}
}

func TestStreamsAreGuarded(t *testing.T) {
	m := newMesh(t)
	order := &limitorderv1.MonitorLimitOrderRequest{
		Identifier: &limitorderv1.MonitorLimitOrderRequest_Name{Name: "limit_orders/" + strings.Repeat("0", 26)}}
	for _, test := range []struct {
		name    string
		ctx     context.Context
		request *limitorderv1.MonitorLimitOrderRequest
		want    codes.Code
	}{
		{"without a key", t.Context(), order, codes.Unauthenticated},
		{"without a role", m.as(t, "Roleless"), order, codes.PermissionDenied},
		{"with a broken rule", m.as(t, "Trading Admin"), &limitorderv1.MonitorLimitOrderRequest{
			Identifier: &limitorderv1.MonitorLimitOrderRequest_Name{Name: "mine"}}, codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			stream, err := limitorderv1.NewLimitOrderServiceClient(m).MonitorLimitOrder(test.ctx, test.request)
			wantCode(t, err, codes.OK)
			_, err = stream.Recv()
			if errors.Is(err, io.EOF) {
				t.Fatal("the stream ended well")
			}
			wantCode(t, err, test.want)
		})
	}
}

func TestViolationsNameTheFields(t *testing.T) {
	m := newMesh(t)
	_, err := groupv1.NewGroupServiceClient(m).CreateGroup(m.as(t, "Broker Admin"), &groupv1.CreateGroupRequest{Group: &groupv1.Group{}})
	wantCode(t, err, codes.InvalidArgument)
	fields := make(map[string]bool)
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, violation := range bad.GetFieldViolations() {
				fields[violation.GetField()] = violation.GetDescription() != ""
			}
		}
	}
	if !fields["group.owner"] || !fields["group.display_name"] {
		t.Errorf("violations of %v", fields)
	}
}
