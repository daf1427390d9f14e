package sandbox_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
	userprofilev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user_profile/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nobody = "groups/ZZZZZZZZZZZZZZZZZZZZZZZZZZ"

// mesh is a fresh sandbox and its seeded callers.
type mesh struct {
	*sandbox.IsolatedConn
	seeded map[string]sandbox.Credential
}

func newMesh(t *testing.T, opts ...sandbox.Option) mesh {
	t.Helper()
	s, err := sandbox.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	m := mesh{s.Conn(), make(map[string]sandbox.Credential)}
	for _, credential := range sandbox.Seeded() {
		m.seeded[credential.DisplayName] = credential
	}
	return m
}

// as is a call of a seeded API user, in its own group unless told another.
func (m mesh) as(t *testing.T, caller string, group ...string) context.Context {
	t.Helper()
	credential, ok := m.seeded[caller]
	if !ok {
		t.Fatalf("no API user %q is seeded", caller)
	}
	in := credential.Group
	if len(group) > 0 {
		in = group[0]
	}
	return metadata.AppendToOutgoingContext(t.Context(), "x-api-key", credential.APIKey, "x-group", in)
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("code %s, want %s: %v", got, want, err)
	}
}

// TestEveryMethodIsGuarded calls all methods of the contract without a key.
func TestEveryMethodIsGuarded(t *testing.T) {
	m := newMesh(t)
	methods := contract.Methods()
	if len(methods) != 69 {
		t.Errorf("%d methods, want 69", len(methods))
	}
	for _, method := range methods {
		t.Run(string(method.Descriptor.FullName()), func(t *testing.T) {
			request := dynamicpb.NewMessage(method.Descriptor.Input())
			stream, err := m.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, method.Name())
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(request); err != nil {
				t.Fatal(err)
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			err = stream.RecvMsg(dynamicpb.NewMessage(method.Descriptor.Output()))
			if method.Public {
				if code := status.Code(err); code != codes.OK && code != codes.InvalidArgument {
					t.Errorf("a public method answers %v", err)
				}
				if strings.HasPrefix(status.Convert(err).Message(), "unknown ") {
					t.Errorf("nothing is registered: %v", err)
				}
				return
			}
			wantCode(t, err, codes.Unauthenticated)
		})
	}
}

func TestAccess(t *testing.T) {
	m := newMesh(t)
	broker, corporate := m.seeded["Broker Admin"].Group, m.seeded["Corporate Admin"].Group
	list := func(ctx context.Context) error {
		_, err := groupv1.NewGroupServiceClient(m).ListGroups(ctx, &groupv1.ListGroupsRequest{})
		return err
	}
	create := func(owner string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := groupv1.NewGroupServiceClient(m).CreateGroup(ctx, &groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: owner, DisplayName: "New"}})
			return err
		}
	}
	get := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := groupv1.NewGroupServiceClient(m).GetGroup(ctx, &groupv1.GetGroupRequest{Name: name})
			return err
		}
	}
	update := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := groupv1.NewGroupServiceClient(m).UpdateGroup(ctx, &groupv1.UpdateGroupRequest{
				Group: &groupv1.Group{Name: name, Owner: broker, DisplayName: "Renamed"}})
			return err
		}
	}
	accounts := func(ctx context.Context) error {
		_, err := accountv1.NewAccountServiceClient(m).ListAccounts(ctx, &accountv1.ListAccountsRequest{})
		return err
	}
	with := func(key, group string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "x-api-key", key, "x-group", group)
	}

	for _, test := range []struct {
		name string
		ctx  context.Context
		call func(context.Context) error
		want codes.Code
	}{
		{"no key", t.Context(), list, codes.Unauthenticated},
		{"unknown key", with(strings.Repeat("k", 43), broker), list, codes.Unauthenticated},
		{"inactive API user", m.as(t, "Retired"), list, codes.Unauthenticated},
		{"the key is checked before the group", with(strings.Repeat("k", 43), nobody), list, codes.Unauthenticated},
		{"unknown group", m.as(t, "Broker Admin", nobody), list, codes.PermissionDenied},
		{"role missing", m.as(t, "Roleless"), list, codes.PermissionDenied},
		{"role of another domain", m.as(t, "Wallet Admin"), list, codes.PermissionDenied},
		{"a viewer reads", m.as(t, "Broker Viewer"), list, codes.OK},
		{"a viewer does not write", m.as(t, "Broker Viewer"), create(broker), codes.PermissionDenied},
		{"a role reaches down the tree", m.as(t, "Broker Admin", corporate), create(corporate), codes.OK},
		{"a role does not reach up the tree", m.as(t, "Corporate Admin", broker), list, codes.PermissionDenied},
		{"the role is checked before the message", m.as(t, "Roleless"), create(""), codes.PermissionDenied},
		{"a broken rule", m.as(t, "Broker Admin"), create("me"), codes.InvalidArgument},
		{"a read sees below", m.as(t, "Broker Admin"), get(corporate), codes.OK},
		{"a read sees its own group", m.as(t, "Corporate Admin"), get(corporate), codes.OK},
		{"a read does not see above", m.as(t, "Corporate Admin"), get(broker), codes.NotFound},
		{"a write touches what its group owns", m.as(t, "Broker Admin"), update(corporate), codes.OK},
		{"a write does not touch further below", m.as(t, "Root Admin"), update(corporate), codes.PermissionDenied},
		{"a write does not see above", m.as(t, "Corporate Admin"), update(broker), codes.NotFound},
		{"a write creates in its own group only", m.as(t, "Broker Admin"), create(corporate), codes.PermissionDenied},
		{"a verified client", m.as(t, "Broker Admin"), accounts, codes.OK},
		{"a client that is not verified", m.as(t, "Individual Admin"), accounts, codes.FailedPrecondition},
		{"no client at all", m.as(t, "Root Admin"), accounts, codes.FailedPrecondition},
	} {
		t.Run(test.name, func(t *testing.T) { wantCode(t, test.call(test.ctx), test.want) })
	}
}

func TestAPIUserStates(t *testing.T) {
	type step struct {
		do   string
		want codes.Code
	}
	for _, test := range []struct {
		name  string
		steps []step
		state apiuserv1.APIUserState
	}{
		{"starts inactive", nil, apiuserv1.APIUserState_API_USER_STATE_INACTIVE},
		{"activate", []step{{"activate", codes.OK}}, apiuserv1.APIUserState_API_USER_STATE_ACTIVE},
		{"activate twice", []step{{"activate", codes.OK}, {"activate", codes.FailedPrecondition}}, apiuserv1.APIUserState_API_USER_STATE_ACTIVE},
		{"deactivate at once", []step{{"deactivate", codes.FailedPrecondition}}, apiuserv1.APIUserState_API_USER_STATE_INACTIVE},
		{"there and back", []step{{"activate", codes.OK}, {"deactivate", codes.OK}}, apiuserv1.APIUserState_API_USER_STATE_INACTIVE},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMesh(t)
			client, ctx := apiuserv1.NewAPIUserServiceClient(m), m.as(t, "IAM Admin")
			user, err := client.CreateAPIUser(ctx, &apiuserv1.CreateAPIUserRequest{ApiUser: &apiuserv1.APIUser{
				Owner: m.seeded["IAM Admin"].Group, DisplayName: "New", State: apiuserv1.APIUserState_API_USER_STATE_ACTIVE}})
			wantCode(t, err, codes.OK)
			for _, step := range test.steps {
				if step.do == "activate" {
					_, err = client.ActivateAPIUser(ctx, &apiuserv1.ActivateAPIUserRequest{Name: user.GetName()})
				} else {
					_, err = client.DeactivateAPIUser(ctx, &apiuserv1.DeactivateAPIUserRequest{Name: user.GetName()})
				}
				wantCode(t, err, step.want)
			}
			got, err := client.GetAPIUser(ctx, &apiuserv1.GetAPIUserRequest{Name: user.GetName()})
			wantCode(t, err, codes.OK)
			if got.GetState() != test.state {
				t.Errorf("state %s, want %s", got.GetState(), test.state)
			}
			if got.GetApiKey() != "" {
				t.Error("the key is told again")
			}
			sum := sha256.Sum256([]byte(user.GetApiKey()))
			byHash, err := client.GetAPIUserByKeyHash(ctx, &apiuserv1.GetAPIUserByKeyHashRequest{KeyHash: base64.StdEncoding.EncodeToString(sum[:])})
			wantCode(t, err, codes.OK)
			if byHash.GetName() != user.GetName() {
				t.Errorf("the hash finds %s", byHash.GetName())
			}
		})
	}
}

func TestRoles(t *testing.T) {
	m := newMesh(t)
	broker := m.seeded["IAM Admin"].Group
	corporate, root := m.seeded["Corporate Admin"].Group, m.seeded["Root Admin"].Group
	client, ctx := apiuserv1.NewAPIUserServiceClient(m), m.as(t, "IAM Admin")
	name := m.seeded["Roleless"].Name
	for _, test := range []struct {
		name string
		role string
		want codes.Code
		held int
	}{
		{"in the executing group", broker + "/roles/3000001", codes.OK, 1},
		{"again", broker + "/roles/3000001", codes.OK, 1},
		{"below", corporate + "/roles/3000001", codes.OK, 2},
		{"above", root + "/roles/3000001", codes.PermissionDenied, 2},
		{"in no group", nobody + "/roles/3000001", codes.PermissionDenied, 2},
		{"no role", broker + "/roles/3999999", codes.InvalidArgument, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := client.AssignRolesToAPIUser(ctx, &apiuserv1.AssignRolesToAPIUserRequest{Name: name, Roles: []string{test.role}})
			wantCode(t, err, test.want)
			user, err := client.GetAPIUser(ctx, &apiuserv1.GetAPIUserRequest{Name: name})
			wantCode(t, err, codes.OK)
			if len(user.GetRoles()) != test.held {
				t.Errorf("holds %v, want %d", user.GetRoles(), test.held)
			}
		})
	}
	for range 2 { // a role not held is no fault
		user, err := client.RevokeRolesFromAPIUser(ctx, &apiuserv1.RevokeRolesFromAPIUserRequest{Name: name, Roles: []string{broker + "/roles/3000001"}})
		wantCode(t, err, codes.OK)
		if len(user.GetRoles()) != 1 {
			t.Errorf("holds %v", user.GetRoles())
		}
	}
}

func TestSearch(t *testing.T) {
	m := newMesh(t)
	broker := m.seeded["Broker Admin"].Group
	groups, users := groupv1.NewGroupServiceClient(m), userv1.NewUserServiceClient(m)
	apiUsers, profiles := apiuserv1.NewAPIUserServiceClient(m), userprofilev1.NewUserProfileServiceClient(m)
	for _, test := range []struct {
		name   string
		search func(context.Context) (int, error)
		want   int
	}{
		{"API users by part of the display name", func(ctx context.Context) (int, error) {
			r, err := apiUsers.SearchAPIUsers(ctx, &apiuserv1.SearchAPIUsersRequest{DisplayName: "Viewer"})
			return len(r.GetApiUsers()), err
		}, 2},
		{"API users by none", func(ctx context.Context) (int, error) {
			r, err := apiUsers.SearchAPIUsers(ctx, &apiuserv1.SearchAPIUsersRequest{DisplayName: "nothing"})
			return len(r.GetApiUsers()), err
		}, 0},
		{"groups by display name in any case", func(ctx context.Context) (int, error) {
			r, err := groups.SearchGroups(ctx, &groupv1.SearchGroupsRequest{DisplayName: "LIGHTHOUSE"})
			return len(r.GetGroups()), err
		}, 1},
		{"groups by display name or description", func(ctx context.Context) (int, error) {
			r, err := groups.SearchGroups(ctx, &groupv1.SearchGroupsRequest{DisplayName: "lighthouse", Description: "a person"})
			return len(r.GetGroups()), err
		}, 2},
		{"groups narrowed to names", func(ctx context.Context) (int, error) {
			r, err := groups.SearchGroups(ctx, &groupv1.SearchGroupsRequest{Description: "client", Names: []string{broker}})
			return len(r.GetGroups()), err
		}, 0},
		{"users by part of the email in any case", func(ctx context.Context) (int, error) {
			r, err := users.SearchUsers(ctx, &userv1.SearchUsersRequest{Email: "HARBOUR"})
			return len(r.GetUsers()), err
		}, 2},
		{"profiles by first name", func(ctx context.Context) (int, error) {
			r, err := profiles.SearchUserProfiles(ctx, &userprofilev1.SearchUserProfilesRequest{FirstName: "oper"})
			return len(r.GetUserProfiles()), err
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.search(m.as(t, "Broker Admin"))
			wantCode(t, err, codes.OK)
			if got != test.want {
				t.Errorf("found %d, want %d", got, test.want)
			}
		})
	}
}

func TestUsers(t *testing.T) {
	m := newMesh(t)
	client, ctx := userv1.NewUserServiceClient(m), m.as(t, "Broker Admin")
	broker := m.seeded["Broker Admin"].Group
	created, err := client.CreateUser(ctx, &userv1.CreateUserRequest{User: &userv1.User{
		Name: "users/" + strings.Repeat("Z", 26), Owner: broker, Email: "new@harbour.example"}})
	wantCode(t, err, codes.OK)
	if created.GetName() == "users/"+strings.Repeat("Z", 26) || len(created.GetOwners()) != 2 {
		t.Errorf("the name or the owners are the client's: %v", created)
	}

	t.Run("an email is taken once", func(t *testing.T) {
		_, err := client.CreateUser(ctx, &userv1.CreateUserRequest{User: &userv1.User{Owner: broker, Email: "NEW@harbour.example"}})
		wantCode(t, err, codes.AlreadyExists)
	})
	t.Run("an update keeps the roles", func(t *testing.T) {
		_, err := client.AssignRolesToUser(ctx, &userv1.AssignRolesToUserRequest{Name: created.GetName(), Roles: []string{broker + "/roles/3000001"}})
		wantCode(t, err, codes.OK)
		updated, err := client.UpdateUser(ctx, &userv1.UpdateUserRequest{User: &userv1.User{
			Name: created.GetName(), Owner: broker, Email: "renamed@harbour.example"}})
		wantCode(t, err, codes.OK)
		if len(updated.GetRoles()) != 1 || updated.GetEmail() != "renamed@harbour.example" {
			t.Errorf("%v", updated)
		}
	})
	t.Run("found by email", func(t *testing.T) {
		found, err := client.GetUserByEmail(ctx, &userv1.GetUserByEmailRequest{Email: "renamed@harbour.example"})
		wantCode(t, err, codes.OK)
		if found.GetName() != created.GetName() {
			t.Errorf("found %v", found)
		}
	})
	t.Run("has a profile, newest first", func(t *testing.T) {
		list, err := userprofilev1.NewUserProfileServiceClient(m).ListUserProfiles(ctx, &userprofilev1.ListUserProfilesRequest{})
		wantCode(t, err, codes.OK)
		if list.GetUserProfiles()[0].GetUser() != created.GetName() {
			t.Errorf("the first is %v", list.GetUserProfiles()[0])
		}
	})
}

func TestProfileUpdateChangesOnlyWhatIsSet(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	m := newMesh(t, sandbox.WithTime(func() time.Time { return now }))
	client, ctx := userprofilev1.NewUserProfileServiceClient(m), m.as(t, "Broker Admin")
	list, err := client.ListUserProfiles(ctx, &userprofilev1.ListUserProfilesRequest{})
	wantCode(t, err, codes.OK)
	var before *userprofilev1.UserProfile
	for _, profile := range list.GetUserProfiles() {
		if profile.GetOwner() == m.seeded["Broker Admin"].Group {
			before = profile
		}
	}
	after, err := client.UpdateUserProfile(ctx, &userprofilev1.UpdateUserProfileRequest{UserProfile: &userprofilev1.UserProfile{
		Name: before.GetName(), Owner: before.GetOwner(), User: before.GetUser(), FirstName: "Ada"}})
	wantCode(t, err, codes.OK)
	if after.GetFirstName() != "Ada" || after.GetUser() != before.GetUser() {
		t.Errorf("%v", after)
	}
	after, err = client.UpdateUserProfile(ctx, &userprofilev1.UpdateUserProfileRequest{UserProfile: &userprofilev1.UserProfile{
		Name: before.GetName(), Owner: before.GetOwner(), User: before.GetUser(), FirstName: "Ada", LastName: "Hart", Locale: "en-ZA"}})
	wantCode(t, err, codes.OK)
	if after.GetLastName() != "Hart" || after.GetLocale() != "en-ZA" {
		t.Errorf("%v", after)
	}
	url, err := client.GetUserProfilePictureUploadUrl(ctx, &userprofilev1.GetUserProfilePictureUploadUrlRequest{Name: before.GetName()})
	wantCode(t, err, codes.OK)
	if left := url.GetExpiresAt().AsTime().Sub(now); left <= 0 || left > time.Hour {
		t.Errorf("the upload URL lives for %s", left)
	}
}

func TestTheSameSeedGivesTheSameAnswers(t *testing.T) {
	clock := sandbox.WithTime(func() time.Time { return time.Unix(1_900_000_000, 0) })
	var answers []protoreflect.ProtoMessage
	for range 2 {
		m := newMesh(t, clock, sandbox.WithSeed(7))
		user, err := apiuserv1.NewAPIUserServiceClient(m).CreateAPIUser(m.as(t, "IAM Admin"), &apiuserv1.CreateAPIUserRequest{
			ApiUser: &apiuserv1.APIUser{Owner: m.seeded["IAM Admin"].Group, DisplayName: "New"}})
		wantCode(t, err, codes.OK)
		answers = append(answers, user)
	}
	if a, b := answers[0].(*apiuserv1.APIUser), answers[1].(*apiuserv1.APIUser); a.GetName() != b.GetName() || a.GetApiKey() != b.GetApiKey() {
		t.Errorf("%v, then %v", a, b)
	}
}
