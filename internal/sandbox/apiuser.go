package sandbox

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
)

// apiUsers is the APIUserService.
type apiUsers struct {
	apiuserv1.UnimplementedAPIUserServiceServer
	*mesh
}

// CreateAPIUser makes an INACTIVE API user. This answer alone holds its key.
func (s *apiUsers) CreateAPIUser(ctx context.Context, request *apiuserv1.CreateAPIUserRequest) (*apiuserv1.APIUser, error) {
	return store.Update(s.db, func(tx *store.Tx) (*apiuserv1.APIUser, error) {
		user := request.GetApiUser()
		group := executingGroup(ctx)
		if err := mayCreate(group, user.GetOwner()); err != nil {
			return nil, err
		}
		roles, err := s.assign(tx, group, nil, user.GetRoles())
		if err != nil {
			return nil, err
		}
		name, err := s.newName(tx, "iam/api_users")
		if err != nil {
			return nil, err
		}
		key, err := s.newKey()
		if err != nil {
			return nil, err
		}
		created := &apiuserv1.APIUser{
			Name:        name,
			Owner:       user.GetOwner(),
			Owners:      s.path(tx, user.GetOwner()),
			DisplayName: user.GetDisplayName(),
			State:       apiuserv1.APIUserState_API_USER_STATE_INACTIVE,
			Roles:       roles,
		}
		if err := s.apiUsers.Create(tx, created); err != nil {
			return nil, err
		}
		if err := s.keys.Create(tx, &apiKey{Hash: keyHash(key), User: name}); err != nil {
			return nil, err
		}
		answer := proto.CloneOf(created)
		answer.ApiKey = key
		return answer, nil
	})
}

func (s *apiUsers) GetAPIUser(ctx context.Context, request *apiuserv1.GetAPIUserRequest) (*apiuserv1.APIUser, error) {
	return store.View(s.db, func(tx *store.Tx) (*apiuserv1.APIUser, error) {
		return getVisible(tx, s.apiUsers, executingGroup(ctx), request.GetName())
	})
}

func (s *apiUsers) GetAPIUserByKeyHash(ctx context.Context, request *apiuserv1.GetAPIUserByKeyHashRequest) (*apiuserv1.APIUser, error) {
	return store.View(s.db, func(tx *store.Tx) (*apiuserv1.APIUser, error) {
		key, ok := s.keys.Get(tx, request.GetKeyHash())
		if !ok {
			return nil, status.Error(codes.NotFound, "There is no API user with this key hash.")
		}
		return getVisible(tx, s.apiUsers, executingGroup(ctx), key.User)
	})
}

func (s *apiUsers) ListAPIUsers(ctx context.Context, _ *apiuserv1.ListAPIUsersRequest) (*apiuserv1.ListAPIUsersResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*apiuserv1.ListAPIUsersResponse, error) {
		return &apiuserv1.ListAPIUsersResponse{ApiUsers: visible(tx, s.apiUsers, executingGroup(ctx), every)}, nil
	})
}

func (s *apiUsers) SearchAPIUsers(ctx context.Context, request *apiuserv1.SearchAPIUsersRequest) (*apiuserv1.SearchAPIUsersResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*apiuserv1.SearchAPIUsersResponse, error) {
		return &apiuserv1.SearchAPIUsersResponse{
			ApiUsers: visible(tx, s.apiUsers, executingGroup(ctx), func(user *apiuserv1.APIUser) bool {
				return strings.Contains(user.GetDisplayName(), request.GetDisplayName())
			}),
		}, nil
	})
}

func (s *apiUsers) ActivateAPIUser(ctx context.Context, request *apiuserv1.ActivateAPIUserRequest) (*apiuserv1.APIUser, error) {
	return s.move(ctx, request.GetName(),
		apiuserv1.APIUserState_API_USER_STATE_INACTIVE, apiuserv1.APIUserState_API_USER_STATE_ACTIVE, "activated")
}

func (s *apiUsers) DeactivateAPIUser(ctx context.Context, request *apiuserv1.DeactivateAPIUserRequest) (*apiuserv1.APIUser, error) {
	return s.move(ctx, request.GetName(),
		apiuserv1.APIUserState_API_USER_STATE_ACTIVE, apiuserv1.APIUserState_API_USER_STATE_INACTIVE, "deactivated")
}

// move takes an API user from one state to the other; done is what a person
// calls that.
func (s *apiUsers) move(ctx context.Context, name string, from, to apiuserv1.APIUserState, done string) (*apiuserv1.APIUser, error) {
	return s.change(ctx, name, func(_ *store.Tx, user *apiuserv1.APIUser) error {
		if user.GetState() != from {
			return status.Errorf(codes.FailedPrecondition, "The API user %s is already %s. Only an API user that is %s can be %s.",
				name, stateName(user.GetState()), stateName(from), done)
		}
		user.State = to
		return nil
	})
}

func stateName(state apiuserv1.APIUserState) string {
	return strings.TrimPrefix(state.String(), "API_USER_STATE_")
}

func (s *apiUsers) AssignRolesToAPIUser(ctx context.Context, request *apiuserv1.AssignRolesToAPIUserRequest) (*apiuserv1.APIUser, error) {
	return s.change(ctx, request.GetName(), func(tx *store.Tx, user *apiuserv1.APIUser) (err error) {
		user.Roles, err = s.assign(tx, executingGroup(ctx), user.GetRoles(), request.GetRoles())
		return err
	})
}

func (s *apiUsers) RevokeRolesFromAPIUser(ctx context.Context, request *apiuserv1.RevokeRolesFromAPIUserRequest) (*apiuserv1.APIUser, error) {
	return s.change(ctx, request.GetName(), func(_ *store.Tx, user *apiuserv1.APIUser) error {
		user.Roles = revoke(user.GetRoles(), request.GetRoles())
		return nil
	})
}

// change replaces an API user by a changed copy.
func (s *apiUsers) change(ctx context.Context, name string, change func(*store.Tx, *apiuserv1.APIUser) error) (*apiuserv1.APIUser, error) {
	return store.Update(s.db, func(tx *store.Tx) (*apiuserv1.APIUser, error) {
		user, err := getForUpdate(tx, s.apiUsers, executingGroup(ctx), name)
		if err != nil {
			return nil, err
		}
		if err := change(tx, user); err != nil {
			return nil, err
		}
		return user, s.apiUsers.Update(tx, user)
	})
}
