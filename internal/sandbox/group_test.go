package sandbox_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

func displayNames(groups []*groupv1.Group) string {
	var names []string
	for _, group := range groups {
		names = append(names, group.GetDisplayName())
	}
	return strings.Join(names, ", ")
}

func TestCreateGroupMakesAChild(t *testing.T) {
	m := newMesh(t)
	root, broker, corporate := m.seeded["Root Admin"].Group, m.seeded["Broker Admin"].Group, m.seeded["Corporate Admin"].Group
	created, err := groupv1.NewGroupServiceClient(m).CreateGroup(m.as(t, "Corporate Admin"), &groupv1.CreateGroupRequest{Group: &groupv1.Group{
		Name: nobody, Owner: corporate, Owners: []string{nobody}, DisplayName: "Desk", Description: "A desk."}})
	wantCode(t, err, codes.OK)
	if created.GetName() == nobody {
		t.Error("the name is the client's")
	}
	if diff := cmp.Diff([]string{root, broker, corporate}, created.GetOwners()); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	// What was made can be worked in at once, with the roles from above.
	_, err = groupv1.NewGroupServiceClient(m).ListGroups(m.as(t, "Broker Admin", created.GetName()), &groupv1.ListGroupsRequest{})
	wantCode(t, err, codes.OK)
}

func TestUpdateGroupChangesNamesOnly(t *testing.T) {
	m := newMesh(t)
	broker, corporate := m.seeded["Broker Admin"].Group, m.seeded["Corporate Admin"].Group
	updated, err := groupv1.NewGroupServiceClient(m).UpdateGroup(m.as(t, "Broker Admin"), &groupv1.UpdateGroupRequest{Group: &groupv1.Group{
		Name: corporate, Owner: corporate, Owners: []string{nobody}, DisplayName: "Renamed"}})
	wantCode(t, err, codes.OK)
	if updated.GetDisplayName() != "Renamed" || updated.GetDescription() != "" {
		t.Errorf("not changed: %v", updated)
	}
	if updated.GetOwner() != broker || len(updated.GetOwners()) != 2 {
		t.Errorf("moved: %v", updated)
	}
}

func TestAGroupCannotChangeItself(t *testing.T) {
	m := newMesh(t)
	for _, test := range []struct{ caller, message string }{
		{"Broker Admin", "belongs to " + m.seeded["Root Admin"].Group},
		{"Root Admin", "root of the tree"},
	} {
		t.Run(test.caller, func(t *testing.T) {
			group := m.seeded[test.caller].Group
			_, err := groupv1.NewGroupServiceClient(m).UpdateGroup(m.as(t, test.caller), &groupv1.UpdateGroupRequest{
				Group: &groupv1.Group{Name: group, Owner: group, DisplayName: "Renamed"}})
			wantCode(t, err, codes.PermissionDenied)
			if !strings.Contains(status.Convert(err).Message(), test.message) {
				t.Errorf("%q, want %q in it", status.Convert(err).Message(), test.message)
			}
		})
	}
}

func TestGroupSorting(t *testing.T) {
	m := newMesh(t)
	const asc, desc = typev1.SortingOrder_SORTING_ORDER_ASC, typev1.SortingOrder_SORTING_ORDER_DESC
	for _, test := range []struct {
		name, caller, field string
		order               typev1.SortingOrder
		want                string
	}{
		{"by creation", "Root Admin", "", 0, "Sandbox Exchange, Harbour Brokers, Lighthouse Trading, Individual"},
		{"by creation, newest first", "Root Admin", "", desc, "Individual, Lighthouse Trading, Harbour Brokers, Sandbox Exchange"},
		{"by display name", "Root Admin", "display_name", 0, "Harbour Brokers, Individual, Lighthouse Trading, Sandbox Exchange"},
		{"by display name, ascending", "Root Admin", "display_name", asc, "Harbour Brokers, Individual, Lighthouse Trading, Sandbox Exchange"},
		{"by display name, descending", "Root Admin", "display_name", desc, "Sandbox Exchange, Lighthouse Trading, Individual, Harbour Brokers"},
		{"by name", "Root Admin", "name", 0, "Sandbox Exchange, Harbour Brokers, Individual, Lighthouse Trading"},
		{"from below", "Broker Admin", "", 0, "Harbour Brokers, Lighthouse Trading, Individual"},
		{"a leaf", "Individual Admin", "", 0, "Individual"},
	} {
		t.Run(test.name, func(t *testing.T) {
			list, err := groupv1.NewGroupServiceClient(m).ListGroups(m.as(t, test.caller), &groupv1.ListGroupsRequest{
				Sorting: &groupv1.ListGroupsRequest_Sorting{Field: test.field, Order: test.order}})
			wantCode(t, err, codes.OK)
			if got := displayNames(list.GetGroups()); got != test.want {
				t.Errorf("listed %s, want %s", got, test.want)
			}
			found, err := groupv1.NewGroupServiceClient(m).SearchGroups(m.as(t, test.caller), &groupv1.SearchGroupsRequest{
				Sorting: &groupv1.SearchGroupsRequest_Sorting{Field: test.field, Order: test.order}})
			wantCode(t, err, codes.OK)
			if got := displayNames(found.GetGroups()); got != test.want {
				t.Errorf("found %s, want %s", got, test.want)
			}
		})
	}
}
