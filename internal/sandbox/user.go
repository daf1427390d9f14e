package sandbox

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
	userprofilev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user_profile/v1"
)

// users is the UserService.
type users struct {
	userv1.UnimplementedUserServiceServer
	store *store
}

// CreateUser makes a user and, since no method makes one, the user's profile,
// with a first name taken from the email until it is changed.
func (s *users) CreateUser(ctx context.Context, request *userv1.CreateUserRequest) (*userv1.User, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	user := request.GetUser()
	group := executingGroup(ctx)
	if err := mayCreate(group, user.GetOwner()); err != nil {
		return nil, err
	}
	if err := s.unique(user.GetEmail(), ""); err != nil {
		return nil, err
	}
	roles, err := s.store.assign(group, nil, user.GetRoles())
	if err != nil {
		return nil, err
	}
	name, err := s.store.name("users")
	if err != nil {
		return nil, err
	}
	profile, err := s.store.name("iam/user_profiles")
	if err != nil {
		return nil, err
	}
	created := proto.CloneOf(user)
	created.Name, created.Owners, created.Roles = name, s.store.path(group), roles
	if err := s.store.users.put(created); err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(user.GetEmail(), "@")
	return created, s.store.profiles.put(&userprofilev1.UserProfile{
		Name: profile, Owner: group, Owners: s.store.path(group), User: name, FirstName: first,
	})
}

// unique checks that no user but the one named has the email. Case does not
// tell two mailboxes apart.
func (s *users) unique(email, but string) error {
	for name, user := range s.store.users.byName {
		if name != but && strings.EqualFold(user.GetEmail(), email) {
			return status.Errorf(codes.AlreadyExists, "A user with the email %s already exists. Use another email.", email)
		}
	}
	return nil
}

func (s *users) GetUser(ctx context.Context, request *userv1.GetUserRequest) (*userv1.User, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	return s.store.users.getVisible(executingGroup(ctx), request.GetName())
}

func (s *users) GetUserByEmail(ctx context.Context, request *userv1.GetUserByEmailRequest) (*userv1.User, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	found := s.store.users.visible(executingGroup(ctx), func(user *userv1.User) bool {
		return strings.EqualFold(user.GetEmail(), request.GetEmail())
	})
	if len(found) == 0 {
		return nil, status.Errorf(codes.NotFound, "There is no user with the email %s that is visible to %s.", request.GetEmail(), executingGroup(ctx))
	}
	return found[0], nil
}

func (s *users) ListUsers(ctx context.Context, request *userv1.ListUsersRequest) (*userv1.ListUsersResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	found := s.store.users.visible(executingGroup(ctx), every)
	var field func(*userv1.User) string
	if request.GetSorting().GetField() == "email" {
		field = (*userv1.User).GetEmail
	}
	sortBy(found, field, request.GetSorting().GetOrder())
	return &userv1.ListUsersResponse{Users: found}, nil
}

func (s *users) SearchUsers(ctx context.Context, request *userv1.SearchUsersRequest) (*userv1.SearchUsersResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	return &userv1.SearchUsersResponse{
		Users: s.store.users.visible(executingGroup(ctx), func(user *userv1.User) bool {
			return containsFold(user.GetEmail(), request.GetEmail())
		}),
	}, nil
}

// UpdateUser replaces what may change: the email, the mobile number and the
// settings of multi-factor authentication. Roles have methods of their own.
func (s *users) UpdateUser(ctx context.Context, request *userv1.UpdateUserRequest) (*userv1.User, error) {
	given := request.GetUser()
	return s.change(ctx, given.GetName(), func(user *userv1.User) error {
		if err := s.unique(given.GetEmail(), user.GetName()); err != nil {
			return err
		}
		user.Email = given.GetEmail()
		user.MobileNumber = proto.CloneOf(given.GetMobileNumber())
		user.MfaSettings = proto.CloneOf(given.GetMfaSettings())
		return nil
	})
}

func (s *users) AssignRolesToUser(ctx context.Context, request *userv1.AssignRolesToUserRequest) (*userv1.User, error) {
	return s.change(ctx, request.GetName(), func(user *userv1.User) (err error) {
		user.Roles, err = s.store.assign(executingGroup(ctx), user.GetRoles(), request.GetRoles())
		return err
	})
}

func (s *users) RevokeRolesFromUser(ctx context.Context, request *userv1.RevokeRolesFromUserRequest) (*userv1.User, error) {
	return s.change(ctx, request.GetName(), func(user *userv1.User) error {
		user.Roles = revoke(user.GetRoles(), request.GetRoles())
		return nil
	})
}

// change replaces a user by a changed copy.
func (s *users) change(ctx context.Context, name string, change func(*userv1.User) error) (*userv1.User, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	user, err := s.store.users.getForUpdate(executingGroup(ctx), name)
	if err != nil {
		return nil, err
	}
	if err := change(user); err != nil {
		return nil, err
	}
	return user, s.store.users.put(user)
}
