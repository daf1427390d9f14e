package sandbox

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
	userprofilev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user_profile/v1"
)

// uploadTime is how long an upload URL can be used.
const uploadTime = 15 * time.Minute

// userProfiles is the UserProfileService.
type userProfiles struct {
	userprofilev1.UnimplementedUserProfileServiceServer
	*mesh
}

func (s *userProfiles) GetUserProfile(ctx context.Context, request *userprofilev1.GetUserProfileRequest) (*userprofilev1.UserProfile, error) {
	return store.View(s.db, func(tx *store.Tx) (*userprofilev1.UserProfile, error) {
		return getVisible(tx, s.profiles, executingGroup(ctx), request.GetName())
	})
}

func (s *userProfiles) GetUserProfileByUser(ctx context.Context, request *userprofilev1.GetUserProfileByUserRequest) (*userprofilev1.UserProfile, error) {
	found, err := s.newestFirst(ctx, func(profile *userprofilev1.UserProfile) bool { return profile.GetUser() == request.GetUser() })
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, status.Errorf(codes.NotFound, "There is no profile of %s that is visible to %s.", request.GetUser(), executingGroup(ctx))
	}
	return found[0], nil
}

func (s *userProfiles) ListUserProfiles(ctx context.Context, _ *userprofilev1.ListUserProfilesRequest) (*userprofilev1.ListUserProfilesResponse, error) {
	found, err := s.newestFirst(ctx, every)
	return &userprofilev1.ListUserProfilesResponse{UserProfiles: found}, err
}

// SearchUserProfiles narrows by whatever is given.
func (s *userProfiles) SearchUserProfiles(ctx context.Context, request *userprofilev1.SearchUserProfilesRequest) (*userprofilev1.SearchUserProfilesResponse, error) {
	found, err := s.newestFirst(ctx, func(profile *userprofilev1.UserProfile) bool {
		return containsFold(profile.GetFirstName(), request.GetFirstName()) &&
			containsFold(profile.GetLastName(), request.GetLastName()) &&
			(len(request.GetUsers()) == 0 || slices.Contains(request.GetUsers(), profile.GetUser()))
	})
	return &userprofilev1.SearchUserProfilesResponse{UserProfiles: found}, err
}

func (s *userProfiles) newestFirst(ctx context.Context, matches func(*userprofilev1.UserProfile) bool) ([]*userprofilev1.UserProfile, error) {
	return store.View(s.db, func(tx *store.Tx) ([]*userprofilev1.UserProfile, error) {
		found := visible(tx, s.profiles, executingGroup(ctx), matches)
		slices.Reverse(found)
		return found, nil
	})
}

// newProfile returns the profile of a new user, named after the mailbox until it is changed.
func (m *mesh) newProfile(tx *store.Tx, name string, user *userv1.User) *userprofilev1.UserProfile {
	first, _, _ := strings.Cut(user.GetEmail(), "@")
	email := func() *userprofilev1.ChannelSettings { return &userprofilev1.ChannelSettings{EmailEnabled: true} }
	return &userprofilev1.UserProfile{
		Name: name, Owner: user.GetOwner(), Owners: user.GetOwners(), User: user.GetName(), FirstName: first,
		NotificationPreferences: &userprofilev1.NotificationPreferences{
			SecurityAlerts:      email(),
			TransactionalAlerts: email(),
			AccountUpdates:      email(),
			PlatformUpdates:     &userprofilev1.ChannelSettings{},
			Marketing:           &userprofilev1.ChannelSettings{},
			UpdatedAt:           timestamppb.New(m.now(tx)),
		},
	}
}

// UpdateUserProfile changes only the fields that are set.
func (s *userProfiles) UpdateUserProfile(ctx context.Context, request *userprofilev1.UpdateUserProfileRequest) (*userprofilev1.UserProfile, error) {
	return store.Update(s.db, func(tx *store.Tx) (*userprofilev1.UserProfile, error) {
		profile, err := getForUpdate(tx, s.profiles, executingGroup(ctx), request.GetUserProfile().GetName())
		if err != nil {
			return nil, err
		}
		given := proto.CloneOf(request.GetUserProfile())
		given.Name, given.Owner, given.Owners, given.User = "", "", nil, ""
		// A message that is given replaces the one that was there; merging alone
		// would mix the two.
		if given.DisplayCurrency != nil {
			profile.DisplayCurrency = nil
		}
		if given.ReportingCurrency != nil {
			profile.ReportingCurrency = nil
		}
		if given.NotificationPreferences != nil {
			// These two always have a channel: the contract refuses settings without one, and settings
			// that are left out stay.
			present, next := profile.GetNotificationPreferences(), given.GetNotificationPreferences()
			next.SecurityAlerts = cmp.Or(next.GetSecurityAlerts(), present.GetSecurityAlerts())
			next.TransactionalAlerts = cmp.Or(next.GetTransactionalAlerts(), present.GetTransactionalAlerts())
			next.UpdatedAt = timestamppb.New(s.now(tx))
			profile.NotificationPreferences = nil
		}
		proto.Merge(profile, given)
		return profile, s.profiles.Update(tx, profile)
	})
}

// GetUserProfilePictureUploadUrl answers with a URL on a host that cannot
// exist (RFC 6761): the sandbox stores no pictures.
func (s *userProfiles) GetUserProfilePictureUploadUrl(ctx context.Context, request *userprofilev1.GetUserProfilePictureUploadUrlRequest) (*userprofilev1.GetUserProfilePictureUploadUrlResponse, error) {
	return store.Update(s.db, func(tx *store.Tx) (*userprofilev1.GetUserProfilePictureUploadUrlResponse, error) {
		profile, err := getVisible(tx, s.profiles, executingGroup(ctx), request.GetName())
		if err != nil {
			return nil, err
		}
		token, err := s.newKey()
		if err != nil {
			return nil, err
		}
		return &userprofilev1.GetUserProfilePictureUploadUrlResponse{
			UploadUrl: "https://pictures.sandbox.invalid/" + profile.GetName() + "?token=" + token,
			ExpiresAt: timestamppb.New(s.now(tx).Add(uploadTime)),
		}, nil
	})
}
