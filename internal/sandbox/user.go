package sandbox

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
)

// users is the UserService.
type users struct {
	userv1.UnimplementedUserServiceServer
	*mesh
}

// CreateUser makes a user and, since no method makes one, the user's profile.
func (s *users) CreateUser(ctx context.Context, request *userv1.CreateUserRequest) (*userv1.User, error) {
	return store.Update(s.db, func(tx *store.Tx) (*userv1.User, error) {
		user := request.GetUser()
		group := executingGroup(ctx)
		if err := mayCreate(group, user.GetOwner()); err != nil {
			return nil, err
		}
		if err := s.unique(tx, user.GetEmail(), ""); err != nil {
			return nil, err
		}
		roles, err := s.assign(tx, group, nil, user.GetRoles())
		if err != nil {
			return nil, err
		}
		name, err := s.newName(tx, "users")
		if err != nil {
			return nil, err
		}
		profile, err := s.newName(tx, "iam/user_profiles")
		if err != nil {
			return nil, err
		}
		created := proto.CloneOf(user)
		created.Name, created.Owners, created.Roles = name, s.path(tx, group), roles
		if err := s.users.Create(tx, created); err != nil {
			return nil, err
		}
		return created, s.profiles.Create(tx, s.newProfile(tx, profile, created))
	})
}

// unique checks that no user but the one named has the email. Case does not
// tell two mailboxes apart.
func (s *users) unique(tx *store.Tx, email, but string) error {
	for user := range s.users.All(tx) {
		if user.GetName() != but && strings.EqualFold(user.GetEmail(), email) {
			return status.Errorf(codes.AlreadyExists, "A user with the email %s already exists. Use another email.", email)
		}
	}
	return nil
}

func (s *users) GetUser(ctx context.Context, request *userv1.GetUserRequest) (*userv1.User, error) {
	return store.View(s.db, func(tx *store.Tx) (*userv1.User, error) {
		return getVisible(tx, s.users, executingGroup(ctx), request.GetName())
	})
}

func (s *users) GetUserByEmail(ctx context.Context, request *userv1.GetUserByEmailRequest) (*userv1.User, error) {
	return store.View(s.db, func(tx *store.Tx) (*userv1.User, error) {
		found := visible(tx, s.users, executingGroup(ctx), func(user *userv1.User) bool {
			return strings.EqualFold(user.GetEmail(), request.GetEmail())
		})
		if len(found) == 0 {
			return nil, status.Errorf(codes.NotFound, "There is no user with the email %s that is visible to %s.", request.GetEmail(), executingGroup(ctx))
		}
		return found[0], nil
	})
}

func (s *users) ListUsers(ctx context.Context, request *userv1.ListUsersRequest) (*userv1.ListUsersResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*userv1.ListUsersResponse, error) {
		found := visible(tx, s.users, executingGroup(ctx), every)
		var field func(*userv1.User) string
		if request.GetSorting().GetField() == "email" {
			field = (*userv1.User).GetEmail
		}
		sortBy(found, field, request.GetSorting().GetOrder())
		return &userv1.ListUsersResponse{Users: found}, nil
	})
}

func (s *users) SearchUsers(ctx context.Context, request *userv1.SearchUsersRequest) (*userv1.SearchUsersResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*userv1.SearchUsersResponse, error) {
		return &userv1.SearchUsersResponse{
			Users: visible(tx, s.users, executingGroup(ctx), func(user *userv1.User) bool {
				return containsFold(user.GetEmail(), request.GetEmail())
			}),
		}, nil
	})
}

// UpdateUser replaces what may change: the email, the mobile number and the
// settings of multi-factor authentication. Roles have methods of their own.
func (s *users) UpdateUser(ctx context.Context, request *userv1.UpdateUserRequest) (*userv1.User, error) {
	given := request.GetUser()
	return s.change(ctx, given.GetName(), func(tx *store.Tx, user *userv1.User) error {
		if err := s.unique(tx, given.GetEmail(), user.GetName()); err != nil {
			return err
		}
		user.Email = given.GetEmail()
		user.MobileNumber = proto.CloneOf(given.GetMobileNumber())
		user.MfaSettings = proto.CloneOf(given.GetMfaSettings())
		return nil
	})
}

func (s *users) AssignRolesToUser(ctx context.Context, request *userv1.AssignRolesToUserRequest) (*userv1.User, error) {
	return s.change(ctx, request.GetName(), func(tx *store.Tx, user *userv1.User) (err error) {
		user.Roles, err = s.assign(tx, executingGroup(ctx), user.GetRoles(), request.GetRoles())
		return err
	})
}

func (s *users) RevokeRolesFromUser(ctx context.Context, request *userv1.RevokeRolesFromUserRequest) (*userv1.User, error) {
	return s.change(ctx, request.GetName(), func(_ *store.Tx, user *userv1.User) error {
		user.Roles = revoke(user.GetRoles(), request.GetRoles())
		return nil
	})
}

// change replaces a user by a changed copy.
func (s *users) change(ctx context.Context, name string, change func(*store.Tx, *userv1.User) error) (*userv1.User, error) {
	return store.Update(s.db, func(tx *store.Tx) (*userv1.User, error) {
		user, err := getForUpdate(tx, s.users, executingGroup(ctx), name)
		if err != nil {
			return nil, err
		}
		if err := change(tx, user); err != nil {
			return nil, err
		}
		return user, s.users.Update(tx, user)
	})
}
