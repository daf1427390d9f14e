package sandbox_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
	userprofilev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user_profile/v1"
)

func profileOf(t *testing.T, m mesh, email string) *userprofilev1.UserProfile {
	t.Helper()
	profile, err := userprofilev1.NewUserProfileServiceClient(m).GetUserProfileByUser(m.as(t, "Root Admin"),
		&userprofilev1.GetUserProfileByUserRequest{User: userByEmail(t, m, email).GetName()})
	wantCode(t, err, codes.OK)
	return profile
}

func TestUserProfileScope(t *testing.T) {
	m := newMesh(t)
	client := userprofilev1.NewUserProfileServiceClient(m)
	operations, treasury := profileOf(t, m, "operations@harbour.example"), profileOf(t, m, "treasury@lighthouse.example")
	for _, test := range []struct {
		name, caller string
		target       *userprofilev1.UserProfile
		read, write  codes.Code
	}{
		{"its own", "Corporate Admin", treasury, codes.OK, codes.OK},
		{"below", "Broker Admin", treasury, codes.OK, codes.PermissionDenied},
		{"above", "Corporate Admin", operations, codes.NotFound, codes.NotFound},
		{"beside", "Individual Admin", treasury, codes.NotFound, codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := m.as(t, test.caller)
			_, err := client.GetUserProfile(ctx, &userprofilev1.GetUserProfileRequest{Name: test.target.GetName()})
			wantCode(t, err, test.read)
			_, err = client.GetUserProfileByUser(ctx, &userprofilev1.GetUserProfileByUserRequest{User: test.target.GetUser()})
			wantCode(t, err, test.read)
			_, err = client.GetUserProfilePictureUploadUrl(ctx, &userprofilev1.GetUserProfilePictureUploadUrlRequest{Name: test.target.GetName()})
			wantCode(t, err, test.read)
			_, err = client.UpdateUserProfile(ctx, &userprofilev1.UpdateUserProfileRequest{UserProfile: test.target})
			wantCode(t, err, test.write)
		})
	}
}

func TestUpdateUserProfileKeepsWhatIsNotSet(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	m := newMesh(t, sandbox.WithTime(func() time.Time { return now }))
	before := profileOf(t, m, "operations@harbour.example")
	update := func(t *testing.T, given *userprofilev1.UserProfile) *userprofilev1.UserProfile {
		t.Helper()
		given.Name, given.Owner, given.User, given.FirstName = before.GetName(), before.GetOwner(), before.GetUser(), before.GetFirstName()
		after, err := userprofilev1.NewUserProfileServiceClient(m).UpdateUserProfile(m.as(t, "Broker Admin"),
			&userprofilev1.UpdateUserProfileRequest{UserProfile: given})
		wantCode(t, err, codes.OK)
		return after
	}
	update(t, &userprofilev1.UserProfile{LastName: "Hart"})
	t.Run("a text", func(t *testing.T) {
		after := update(t, &userprofilev1.UserProfile{Locale: "en-ZA"})
		if after.GetLastName() != "Hart" || after.GetLocale() != "en-ZA" {
			t.Errorf("%v", after)
		}
	})
	both := &userprofilev1.ChannelSettings{EmailEnabled: true, SmsEnabled: true}
	email := &userprofilev1.ChannelSettings{EmailEnabled: true}
	update(t, &userprofilev1.UserProfile{NotificationPreferences: &userprofilev1.NotificationPreferences{
		SecurityAlerts: both, TransactionalAlerts: both, Marketing: both}})
	t.Run("alerts that must have a channel stay", func(t *testing.T) {
		got := update(t, &userprofilev1.UserProfile{NotificationPreferences: &userprofilev1.NotificationPreferences{Marketing: both}}).GetNotificationPreferences()
		if !proto.Equal(got.GetSecurityAlerts(), both) || !proto.Equal(got.GetTransactionalAlerts(), both) {
			t.Errorf("%v", got)
		}
	})
	t.Run("alerts without a channel are refused", func(t *testing.T) {
		for _, given := range []*userprofilev1.NotificationPreferences{
			{SecurityAlerts: &userprofilev1.ChannelSettings{}},
			{TransactionalAlerts: &userprofilev1.ChannelSettings{}},
		} {
			_, err := userprofilev1.NewUserProfileServiceClient(m).UpdateUserProfile(m.as(t, "Broker Admin"), &userprofilev1.UpdateUserProfileRequest{UserProfile: &userprofilev1.UserProfile{
				Name: before.GetName(), Owner: before.GetOwner(), User: before.GetUser(), FirstName: "Ada", NotificationPreferences: given}})
			wantCode(t, err, codes.InvalidArgument)
		}
	})
	t.Run("a message replaces the one before", func(t *testing.T) {
		after := update(t, &userprofilev1.UserProfile{NotificationPreferences: &userprofilev1.NotificationPreferences{
			SecurityAlerts: email, TransactionalAlerts: email}})
		got := after.GetNotificationPreferences()
		if got.GetMarketing().GetEmailEnabled() || got.GetSecurityAlerts().GetSmsEnabled() {
			t.Errorf("%v", got)
		}
		if !got.GetUpdatedAt().AsTime().Equal(now) {
			t.Errorf("updated at %s, want %s", got.GetUpdatedAt().AsTime(), now)
		}
	})
	t.Run("the user stays", func(t *testing.T) {
		given := &userprofilev1.UserProfile{Owners: []string{nobody}}
		if after := update(t, given); len(after.GetOwners()) != 2 || after.GetUser() != before.GetUser() {
			t.Errorf("%v", after)
		}
	})
}

// TestNotificationPreferencesOfANewProfile reads those of a seeded user and of a new one.
func TestNotificationPreferencesOfANewProfile(t *testing.T) {
	m := newMesh(t)
	_, err := userv1.NewUserServiceClient(m).CreateUser(m.as(t, "Broker Admin"), &userv1.CreateUserRequest{User: &userv1.User{
		Owner: m.seeded["Broker Admin"].Group, Email: "new@harbour.example"}})
	wantCode(t, err, codes.OK)
	on, off := &userprofilev1.ChannelSettings{EmailEnabled: true}, new(userprofilev1.ChannelSettings)
	want := &userprofilev1.NotificationPreferences{SecurityAlerts: on, TransactionalAlerts: on, AccountUpdates: on, PlatformUpdates: off, Marketing: off}
	for _, email := range []string{"operations@harbour.example", "new@harbour.example"} {
		t.Run(email, func(t *testing.T) {
			got := proto.CloneOf(profileOf(t, m, email).GetNotificationPreferences())
			if got.GetUpdatedAt() == nil {
				t.Error("the time is not set")
			}
			got.UpdatedAt = nil
			if !proto.Equal(got, want) {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestUserProfilesNewestFirst(t *testing.T) {
	m := newMesh(t)
	list, err := userprofilev1.NewUserProfileServiceClient(m).ListUserProfiles(m.as(t, "Broker Admin"), &userprofilev1.ListUserProfilesRequest{})
	wantCode(t, err, codes.OK)
	var got []string
	for _, profile := range list.GetUserProfiles() {
		got = append(got, profile.GetFirstName())
	}
	if want := "person treasury compliance operations"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestSearchUserProfilesByUsers(t *testing.T) {
	m := newMesh(t)
	found, err := userprofilev1.NewUserProfileServiceClient(m).SearchUserProfiles(m.as(t, "Broker Admin"),
		&userprofilev1.SearchUserProfilesRequest{Users: []string{userByEmail(t, m, "person@mail.example").GetName()}})
	wantCode(t, err, codes.OK)
	if len(found.GetUserProfiles()) != 1 || found.GetUserProfiles()[0].GetFirstName() != "person" {
		t.Errorf("found %v", found.GetUserProfiles())
	}
}

func TestPictureUploadURL(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	m := newMesh(t, sandbox.WithTime(func() time.Time { return now }))
	answer, err := userprofilev1.NewUserProfileServiceClient(m).GetUserProfilePictureUploadUrl(m.as(t, "Broker Admin"),
		&userprofilev1.GetUserProfilePictureUploadUrlRequest{Name: profileOf(t, m, "operations@harbour.example").GetName()})
	wantCode(t, err, codes.OK)
	upload, err := url.Parse(answer.GetUploadUrl())
	if err != nil || upload.Scheme != "https" || !strings.HasSuffix(upload.Host, ".invalid") {
		t.Errorf("URL %s (%v)", answer.GetUploadUrl(), err)
	}
	if want := now.Add(15 * time.Minute); !answer.GetExpiresAt().AsTime().Equal(want) {
		t.Errorf("expires at %s, want %s", answer.GetExpiresAt().AsTime(), want)
	}
}
