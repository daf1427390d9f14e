package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	rolev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/role/v1"
	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
)

// The groups of the seed: a brokerage.
const (
	rootGroup       = "groups/00000000000000000000000000"
	brokerGroup     = "groups/00000000000000000000BR0KER"
	corporateGroup  = "groups/00000000000000000C0RP0RATE"
	individualGroup = "groups/0000000000000000000PERS0NX"
)

// Credential is a seeded API user with its public test key and the group to use it in.
type Credential struct {
	// Name is the resource name of the API user.
	Name, DisplayName string
	// Description says what the API user can do.
	Description string
	APIKey      string
	Group       string
	// Roles are the roles of the API user in Group.
	Roles  []rolev1.Role
	Active bool
}

// Seeded returns the API users of every new sandbox. The first has all permissions in the group of
// the broker.
func Seeded() []Credential {
	admins, viewers := rolesEnding("_ADMIN"), rolesEnding("_VIEWER")
	return []Credential{
		seeded(1, "Broker Admin", "broker-admin", "All permissions in the group of the broker.", brokerGroup, admins, true),
		seeded(2, "Broker Viewer", "broker-viewer", "Read permissions in the group of the broker.", brokerGroup, viewers, true),
		seeded(3, "IAM Admin", "iam-admin", "Only users, groups and API users.", brokerGroup, []rolev1.Role{rolev1.Role_ROLE_IAM_ADMIN}, true),
		seeded(4, "Wallet Admin", "wallet-admin", "Only accounts and transfers.", brokerGroup, []rolev1.Role{rolev1.Role_ROLE_WALLET_ADMIN}, true),
		seeded(5, "Trading Admin", "trading-admin", "Only orders.", brokerGroup, []rolev1.Role{rolev1.Role_ROLE_TRADING_ADMIN}, true),
		seeded(6, "Compliance Admin", "compliance-admin", "Only clients and their verification.", brokerGroup, []rolev1.Role{rolev1.Role_ROLE_COMPLIANCE_ADMIN}, true),
		seeded(7, "Reporting Viewer", "reporting-viewer", "Only account reports.", brokerGroup, []rolev1.Role{rolev1.Role_ROLE_REPORTING_VIEWER}, true),
		seeded(8, "Roleless", "roleless", "A valid key without roles: calls fail with PERMISSION_DENIED.", brokerGroup, nil, true),
		seeded(9, "Retired", "retired", "An inactive API user: calls fail with UNAUTHENTICATED.", brokerGroup, admins, false),
		seeded(10, "Corporate Admin", "corporate-admin", "All permissions in the group of a verified company below the broker.", corporateGroup, admins, true),
		seeded(11, "Individual Admin", "individual-admin", "All permissions in the group of a person who is not verified yet.", individualGroup, admins, true),
		seeded(12, "Root Admin", "root-admin", "All roles in the root group, which has no verified client.", rootGroup, admins, true),
	}
}

func seeded(number int, displayName, key, description, group string, roles []rolev1.Role, active bool) Credential {
	key = "sandbox-" + key + "-key-"
	return Credential{
		Name:        fmt.Sprintf("iam/api_users/%026d", number),
		DisplayName: displayName,
		Description: description,
		APIKey:      key + strings.Repeat("0", 43-len(key)),
		Group:       group,
		Roles:       roles,
		Active:      active,
	}
}

func rolesEnding(suffix string) []rolev1.Role {
	var roles []rolev1.Role
	for number, name := range rolev1.Role_name {
		if strings.HasSuffix(name, suffix) {
			roles = append(roles, rolev1.Role(number))
		}
	}
	slices.Sort(roles)
	return roles
}

// seed fills an empty store. It makes no use of the random source for names, so
// that what is seeded is called the same in every sandbox.
func (m *mesh) seed(tx *store.Tx) error {
	for _, part := range []func(*store.Tx) error{m.seedIAM, m.seedClients, m.ledger.OpenMarkets, m.seedAccounts, m.seedTransfer, m.seedOrders} {
		if err := part(tx); err != nil {
			return err
		}
	}
	return nil
}

// seedIAM makes the groups, the users and the API users.
func (m *mesh) seedIAM(tx *store.Tx) error {
	for _, group := range []*groupv1.Group{
		{Name: rootGroup, DisplayName: "Sandbox Exchange", Description: "The root group."},
		{Name: brokerGroup, Owner: rootGroup, DisplayName: "Harbour Brokers", Description: "A verified broker."},
		{Name: corporateGroup, Owner: brokerGroup, DisplayName: "Lighthouse Trading", Description: "A verified company, client of the broker."},
		{Name: individualGroup, Owner: brokerGroup, DisplayName: "Individual", Description: "A person who is not verified yet, client of the broker."},
	} {
		if group.GetOwner() != "" {
			group.Owners = m.path(tx, group.GetOwner())
		}
		if err := m.groups.Create(tx, group); err != nil {
			return err
		}
	}

	for i, user := range []*userv1.User{
		{Owner: brokerGroup, Email: "operations@harbour.example"},
		{Owner: brokerGroup, Email: "compliance@harbour.example"},
		{Owner: corporateGroup, Email: "treasury@lighthouse.example"},
		{Owner: individualGroup, Email: "person@mail.example"},
	} {
		user.Name = fmt.Sprintf("users/%026d", i+1)
		user.Owners = m.path(tx, user.GetOwner())
		if err := m.users.Create(tx, user); err != nil {
			return err
		}
		if err := m.profiles.Create(tx, m.newProfile(tx, fmt.Sprintf("iam/user_profiles/%026d", i+1), user)); err != nil {
			return err
		}
	}

	for _, credential := range Seeded() {
		user := &apiuserv1.APIUser{
			Name:        credential.Name,
			Owner:       credential.Group,
			Owners:      m.path(tx, credential.Group),
			DisplayName: credential.DisplayName,
			State:       apiuserv1.APIUserState_API_USER_STATE_INACTIVE,
		}
		if credential.Active {
			user.State = apiuserv1.APIUserState_API_USER_STATE_ACTIVE
		}
		for _, role := range credential.Roles {
			user.Roles = append(user.Roles, roleName(credential.Group, role))
		}
		if err := m.apiUsers.Create(tx, user); err != nil {
			return err
		}
		if err := m.keys.Create(tx, &apiKey{Hash: keyHash(credential.APIKey), User: user.GetName()}); err != nil {
			return err
		}
	}
	return nil
}
