package sandbox_test

import (
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
)

var keyPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

func keyHash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestAKeyLivesAsItsAPIUserDoes(t *testing.T) {
	m := newMesh(t)
	client, ctx := apiuserv1.NewAPIUserServiceClient(m), m.as(t, "IAM Admin")
	broker := m.seeded["IAM Admin"].Group
	user, err := client.CreateAPIUser(ctx, &apiuserv1.CreateAPIUserRequest{ApiUser: &apiuserv1.APIUser{
		Owner: broker, DisplayName: "New", Roles: []string{broker + "/roles/3000001"}}})
	wantCode(t, err, codes.OK)
	if !keyPattern.MatchString(user.GetApiKey()) {
		t.Fatalf("key %q", user.GetApiKey())
	}
	own := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", user.GetApiKey(), "x-group", broker)
	use := func(want codes.Code) {
		t.Helper()
		_, err := groupv1.NewGroupServiceClient(m).ListGroups(own, &groupv1.ListGroupsRequest{})
		wantCode(t, err, want)
	}
	use(codes.Unauthenticated)
	activated, err := client.ActivateAPIUser(ctx, &apiuserv1.ActivateAPIUserRequest{Name: user.GetName()})
	wantCode(t, err, codes.OK)
	if activated.GetApiKey() != "" {
		t.Error("the key is told again")
	}
	use(codes.OK)
	_, err = client.RevokeRolesFromAPIUser(ctx, &apiuserv1.RevokeRolesFromAPIUserRequest{Name: user.GetName(), Roles: user.GetRoles()})
	wantCode(t, err, codes.OK)
	use(codes.PermissionDenied)
	_, err = client.DeactivateAPIUser(ctx, &apiuserv1.DeactivateAPIUserRequest{Name: user.GetName()})
	wantCode(t, err, codes.OK)
	use(codes.Unauthenticated)
}

func TestCreateAPIUserIgnoresWhatTheServerSets(t *testing.T) {
	m := newMesh(t)
	broker, sent := m.seeded["IAM Admin"].Group, "iam/api_users/"+strings.Repeat("Z", 26)
	user, err := apiuserv1.NewAPIUserServiceClient(m).CreateAPIUser(m.as(t, "IAM Admin"), &apiuserv1.CreateAPIUserRequest{
		ApiUser: &apiuserv1.APIUser{
			Name: sent, Owner: broker, Owners: []string{nobody}, DisplayName: "New",
			State: apiuserv1.APIUserState_API_USER_STATE_ACTIVE, ApiKey: "mine",
		}})
	wantCode(t, err, codes.OK)
	if user.GetName() == sent {
		t.Error("the name is the client's")
	}
	if owners := user.GetOwners(); len(owners) != 2 || owners[0] != m.seeded["Root Admin"].Group || owners[1] != broker {
		t.Errorf("owners %v", owners)
	}
	if user.GetState() != apiuserv1.APIUserState_API_USER_STATE_INACTIVE {
		t.Errorf("state %s", user.GetState())
	}
	if user.GetApiKey() == "mine" {
		t.Error("the key is the client's")
	}
}

func TestAPIUserScope(t *testing.T) {
	seeded := newMesh(t).seeded
	corporate, broker := seeded["Corporate Admin"], seeded["Broker Admin"]
	roles := []string{corporate.Group + "/roles/3000001"}
	for _, test := range []struct {
		name, caller, target string
		read, write          codes.Code
	}{
		{"its own", "Corporate Admin", corporate.Name, codes.OK, codes.OK},
		{"below", "Broker Admin", corporate.Name, codes.OK, codes.PermissionDenied},
		{"above", "Corporate Admin", broker.Name, codes.NotFound, codes.NotFound},
		{"beside", "Individual Admin", corporate.Name, codes.NotFound, codes.NotFound},
		{"nowhere", "Broker Admin", "iam/api_users/" + strings.Repeat("Z", 26), codes.NotFound, codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMesh(t) // the caller may end by deactivating itself
			client, ctx := apiuserv1.NewAPIUserServiceClient(m), m.as(t, test.caller)
			_, err := client.GetAPIUser(ctx, &apiuserv1.GetAPIUserRequest{Name: test.target})
			wantCode(t, err, test.read)
			_, err = client.AssignRolesToAPIUser(ctx, &apiuserv1.AssignRolesToAPIUserRequest{Name: test.target, Roles: roles})
			wantCode(t, err, test.write)
			_, err = client.RevokeRolesFromAPIUser(ctx, &apiuserv1.RevokeRolesFromAPIUserRequest{Name: test.target, Roles: roles})
			wantCode(t, err, test.write)
			_, err = client.DeactivateAPIUser(ctx, &apiuserv1.DeactivateAPIUserRequest{Name: test.target})
			wantCode(t, err, test.write)
		})
	}
}

func TestAPIUserByKeyHash(t *testing.T) {
	m := newMesh(t)
	client := apiuserv1.NewAPIUserServiceClient(m)
	for _, test := range []struct {
		name, caller, hash string
		want               codes.Code
	}{
		{"seen", "Broker Admin", keyHash(m.seeded["Corporate Admin"].APIKey), codes.OK},
		{"not seen", "Corporate Admin", keyHash(m.seeded["Broker Admin"].APIKey), codes.NotFound},
		{"of no key", "Broker Admin", keyHash("none"), codes.NotFound},
		{"no hash", "Broker Admin", "none", codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := client.GetAPIUserByKeyHash(m.as(t, test.caller), &apiuserv1.GetAPIUserByKeyHashRequest{KeyHash: test.hash})
			wantCode(t, err, test.want)
		})
	}
}

func TestAPIUserSearchMindsTheCase(t *testing.T) {
	m := newMesh(t)
	found, err := apiuserv1.NewAPIUserServiceClient(m).SearchAPIUsers(m.as(t, "Broker Admin"), &apiuserv1.SearchAPIUsersRequest{DisplayName: "viewer"})
	wantCode(t, err, codes.OK)
	if len(found.GetApiUsers()) != 0 {
		t.Errorf("found %v", found.GetApiUsers())
	}
}
