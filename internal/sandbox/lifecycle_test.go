package sandbox_test

import (
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
)

func TestClose(t *testing.T) {
	t.Run("at once", func(t *testing.T) {
		for range 50 { // the server may not have come to serve yet
			s, err := sandbox.New()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("again", func(t *testing.T) {
		s, err := sandbox.New()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNewLeavesNothingOpenWhereItFails(t *testing.T) {
	if _, err := sandbox.New(sandbox.WithCapacity(1)); err == nil {
		t.Error("the seed data fits in a sandbox for one")
	}
}

func TestSeed(t *testing.T) {
	m := newMesh(t)
	for i, credential := range sandbox.Seeded() {
		t.Run(credential.DisplayName, func(t *testing.T) {
			if i == 0 && credential.DisplayName != "Broker Admin" {
				t.Error("the broker's admin is to come first")
			}
			if credential.Description == "" {
				t.Error("no description")
			}
			if !keyPattern.MatchString(credential.APIKey) {
				t.Errorf("key %q", credential.APIKey)
			}
			user, err := apiuserv1.NewAPIUserServiceClient(m).GetAPIUser(m.as(t, "Root Admin"), &apiuserv1.GetAPIUserRequest{Name: credential.Name})
			wantCode(t, err, codes.OK)
			if user.GetDisplayName() != credential.DisplayName || user.GetOwner() != credential.Group {
				t.Errorf("%v", user)
			}
		})
	}
}

func TestCapacity(t *testing.T) {
	m := newMesh(t, sandbox.WithCapacity(len(sandbox.Seeded())))
	_, err := apiuserv1.NewAPIUserServiceClient(m).CreateAPIUser(m.as(t, "IAM Admin"), &apiuserv1.CreateAPIUserRequest{
		ApiUser: &apiuserv1.APIUser{Owner: m.seeded["IAM Admin"].Group, DisplayName: "One too many"}})
	wantCode(t, err, codes.ResourceExhausted)
}

// TestAnswersAreTheCallersOwn changes an answer and asks again.
func TestAnswersAreTheCallersOwn(t *testing.T) {
	m := newMesh(t)
	client, ctx := apiuserv1.NewAPIUserServiceClient(m), m.as(t, "IAM Admin")
	request := &apiuserv1.GetAPIUserRequest{Name: m.seeded["Broker Admin"].Name}
	first, err := client.GetAPIUser(ctx, request)
	wantCode(t, err, codes.OK)
	first.DisplayName, first.Roles[0] = "changed", "changed"
	second, err := client.GetAPIUser(ctx, request)
	wantCode(t, err, codes.OK)
	if second.GetDisplayName() == "changed" || second.GetRoles()[0] == "changed" {
		t.Errorf("the caller's change reached the sandbox: %v", second)
	}
}

// TestManyCallersAtOnce is for the race detector.
func TestManyCallersAtOnce(t *testing.T) {
	m := newMesh(t)
	client, ctx := apiuserv1.NewAPIUserServiceClient(m), m.as(t, "IAM Admin")
	broker, name := m.seeded["IAM Admin"].Group, m.seeded["Roleless"].Name
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 10 {
				roles := []string{broker + "/roles/3000001"}
				_, _ = client.AssignRolesToAPIUser(ctx, &apiuserv1.AssignRolesToAPIUserRequest{Name: name, Roles: roles})
				_, _ = client.ListAPIUsers(ctx, &apiuserv1.ListAPIUsersRequest{})
				_, _ = client.RevokeRolesFromAPIUser(ctx, &apiuserv1.RevokeRolesFromAPIUserRequest{Name: name, Roles: roles})
				_, _ = client.CreateAPIUser(ctx, &apiuserv1.CreateAPIUserRequest{ApiUser: &apiuserv1.APIUser{Owner: broker, DisplayName: "Crowd"}})
			}
		})
	}
	callers.Wait()
	found, err := client.SearchAPIUsers(ctx, &apiuserv1.SearchAPIUsersRequest{DisplayName: "Crowd"})
	wantCode(t, err, codes.OK)
	if len(found.GetApiUsers()) != 80 {
		t.Errorf("%d were created, want 80", len(found.GetApiUsers()))
	}
}
