package sandbox_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
	userprofilev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user_profile/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

func userByEmail(t *testing.T, m mesh, email string) *userv1.User {
	t.Helper()
	user, err := userv1.NewUserServiceClient(m).GetUserByEmail(m.as(t, "Root Admin"), &userv1.GetUserByEmailRequest{Email: email})
	wantCode(t, err, codes.OK)
	return user
}

func TestUserScope(t *testing.T) {
	m := newMesh(t)
	client := userv1.NewUserServiceClient(m)
	operations, treasury := userByEmail(t, m, "operations@harbour.example"), userByEmail(t, m, "treasury@lighthouse.example")
	for _, test := range []struct {
		name, caller string
		target       *userv1.User
		read, write  codes.Code
	}{
		{"its own", "Corporate Admin", treasury, codes.OK, codes.OK},
		{"below", "Broker Admin", treasury, codes.OK, codes.PermissionDenied},
		{"above", "Corporate Admin", operations, codes.NotFound, codes.NotFound},
		{"beside", "Individual Admin", treasury, codes.NotFound, codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, name := m.as(t, test.caller), test.target.GetName()
			roles := []string{m.seeded[test.caller].Group + "/roles/3000001"}
			_, err := client.GetUser(ctx, &userv1.GetUserRequest{Name: name})
			wantCode(t, err, test.read)
			_, err = client.GetUserByEmail(ctx, &userv1.GetUserByEmailRequest{Email: test.target.GetEmail()})
			wantCode(t, err, test.read)
			_, err = client.UpdateUser(ctx, &userv1.UpdateUserRequest{User: test.target})
			wantCode(t, err, test.write)
			_, err = client.AssignRolesToUser(ctx, &userv1.AssignRolesToUserRequest{Name: name, Roles: roles})
			wantCode(t, err, test.write)
			_, err = client.RevokeRolesFromUser(ctx, &userv1.RevokeRolesFromUserRequest{Name: name, Roles: roles})
			wantCode(t, err, test.write)
		})
	}
}

func TestCreateUserRefusals(t *testing.T) {
	m := newMesh(t)
	broker, corporate := m.seeded["Broker Admin"].Group, m.seeded["Corporate Admin"].Group
	for _, test := range []struct {
		name string
		user *userv1.User
		want codes.Code
	}{
		{"of another group", &userv1.User{Owner: corporate, Email: "new@harbour.example"}, codes.PermissionDenied},
		{"with a taken email", &userv1.User{Owner: broker, Email: "operations@harbour.example"}, codes.AlreadyExists},
		{"with an email taken where it cannot be seen", &userv1.User{Owner: broker, Email: "Person@mail.example"}, codes.AlreadyExists},
		{"with a role above", &userv1.User{Owner: broker, Email: "new@harbour.example",
			Roles: []string{m.seeded["Root Admin"].Group + "/roles/3000000"}}, codes.PermissionDenied},
		{"with no email", &userv1.User{Owner: broker, Email: "new"}, codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := userv1.NewUserServiceClient(m).CreateUser(m.as(t, "Broker Admin"), &userv1.CreateUserRequest{User: test.user})
			wantCode(t, err, test.want)
		})
	}
	t.Run("leave nothing behind", func(t *testing.T) {
		list, err := userprofilev1.NewUserProfileServiceClient(m).ListUserProfiles(m.as(t, "Root Admin"), &userprofilev1.ListUserProfilesRequest{})
		wantCode(t, err, codes.OK)
		if len(list.GetUserProfiles()) != 4 {
			t.Errorf("%d profiles, want the 4 of the seed", len(list.GetUserProfiles()))
		}
	})
}

func TestUpdateUser(t *testing.T) {
	m := newMesh(t)
	client, ctx := userv1.NewUserServiceClient(m), m.as(t, "Broker Admin")
	user := userByEmail(t, m, "operations@harbour.example")
	update := func(t *testing.T, given *userv1.User, want codes.Code) *userv1.User {
		t.Helper()
		given.Name, given.Owner = user.GetName(), user.GetOwner()
		updated, err := client.UpdateUser(ctx, &userv1.UpdateUserRequest{User: given})
		wantCode(t, err, want)
		return updated
	}
	t.Run("changes the mobile number", func(t *testing.T) {
		updated := update(t, &userv1.User{Email: user.GetEmail(), MobileNumber: &userv1.MobileNumber{Value: "+27215550100"}}, codes.OK)
		if updated.GetMobileNumber().GetValue() != "+27215550100" {
			t.Errorf("%v", updated)
		}
	})
	t.Run("does not give roles", func(t *testing.T) {
		updated := update(t, &userv1.User{Email: user.GetEmail(), Roles: []string{user.GetOwner() + "/roles/3000000"}}, codes.OK)
		if len(updated.GetRoles()) != 0 {
			t.Errorf("holds %v", updated.GetRoles())
		}
	})
	t.Run("does not take another's email", func(t *testing.T) {
		update(t, &userv1.User{Email: "compliance@harbour.example"}, codes.AlreadyExists)
	})
}

func TestUserRoles(t *testing.T) {
	m := newMesh(t)
	client, ctx := userv1.NewUserServiceClient(m), m.as(t, "Broker Admin")
	user := userByEmail(t, m, "operations@harbour.example")
	viewer := []string{user.GetOwner() + "/roles/3000001"}
	for _, name := range []string{"assign", "assign again"} {
		t.Run(name, func(t *testing.T) {
			got, err := client.AssignRolesToUser(ctx, &userv1.AssignRolesToUserRequest{Name: user.GetName(), Roles: viewer})
			wantCode(t, err, codes.OK)
			if len(got.GetRoles()) != 1 {
				t.Errorf("holds %v", got.GetRoles())
			}
		})
	}
	for _, name := range []string{"revoke", "revoke again"} {
		t.Run(name, func(t *testing.T) {
			got, err := client.RevokeRolesFromUser(ctx, &userv1.RevokeRolesFromUserRequest{Name: user.GetName(), Roles: viewer})
			wantCode(t, err, codes.OK)
			if len(got.GetRoles()) != 0 {
				t.Errorf("holds %v", got.GetRoles())
			}
		})
	}
	t.Run("all or none", func(t *testing.T) {
		_, err := client.AssignRolesToUser(ctx, &userv1.AssignRolesToUserRequest{
			Name: user.GetName(), Roles: append(viewer, user.GetOwner()+"/roles/3999999")})
		wantCode(t, err, codes.InvalidArgument)
		if got := userByEmail(t, m, user.GetEmail()); len(got.GetRoles()) != 0 {
			t.Errorf("holds %v", got.GetRoles())
		}
	})
}

func TestUserSorting(t *testing.T) {
	m := newMesh(t)
	for _, test := range []struct {
		name, field string
		order       typev1.SortingOrder
		want        string
	}{
		{"by creation", "", 0, "operations compliance treasury person"},
		{"by email", "email", 0, "compliance operations person treasury"},
		{"by email, descending", "email", typev1.SortingOrder_SORTING_ORDER_DESC, "treasury person operations compliance"},
	} {
		t.Run(test.name, func(t *testing.T) {
			list, err := userv1.NewUserServiceClient(m).ListUsers(m.as(t, "Broker Admin"), &userv1.ListUsersRequest{
				Sorting: &userv1.ListUsersRequest_Sorting{Field: test.field, Order: test.order}})
			wantCode(t, err, codes.OK)
			var got []string
			for _, user := range list.GetUsers() {
				mailbox, _, _ := strings.Cut(user.GetEmail(), "@")
				got = append(got, mailbox)
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("%v, want %s", got, test.want)
			}
		})
	}
}
