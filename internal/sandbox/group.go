package sandbox

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// groups is the GroupService.
type groups struct {
	groupv1.UnimplementedGroupServiceServer
	*mesh
}

// visible is what a group sees of the tree: itself, which is in none of its own
// owners, and all below it.
func (s *groups) visible(tx *store.Tx, group string, matches func(*groupv1.Group) bool) []*groupv1.Group {
	var found []*groupv1.Group
	if self, ok := s.groups.Get(tx, group); ok && matches(self) {
		found = append(found, self)
	}
	return append(found, visible(tx, s.groups, group, matches)...)
}

func (s *groups) CreateGroup(ctx context.Context, request *groupv1.CreateGroupRequest) (*groupv1.Group, error) {
	return store.Update(s.db, func(tx *store.Tx) (*groupv1.Group, error) {
		group := request.GetGroup()
		if err := mayCreate(executingGroup(ctx), group.GetOwner()); err != nil {
			return nil, err
		}
		name, err := s.newName(tx, "groups")
		if err != nil {
			return nil, err
		}
		created := &groupv1.Group{
			Name:        name,
			Owner:       group.GetOwner(),
			Owners:      s.path(tx, group.GetOwner()),
			DisplayName: group.GetDisplayName(),
			Description: group.GetDescription(),
		}
		return created, s.groups.Create(tx, created)
	})
}

func (s *groups) UpdateGroup(ctx context.Context, request *groupv1.UpdateGroupRequest) (*groupv1.Group, error) {
	return store.Update(s.db, func(tx *store.Tx) (*groupv1.Group, error) {
		executing, name := executingGroup(ctx), request.GetGroup().GetName()
		if name == executing {
			// A group sees itself, but belongs to the one above.
			self, _ := s.groups.Get(tx, name)
			return nil, notOwned(executing, self)
		}
		updated, err := getForUpdate(tx, s.groups, executing, name)
		if err != nil {
			return nil, err
		}
		updated.DisplayName = request.GetGroup().GetDisplayName()
		updated.Description = request.GetGroup().GetDescription()
		return updated, s.groups.Update(tx, updated)
	})
}

func (s *groups) GetGroup(ctx context.Context, request *groupv1.GetGroupRequest) (*groupv1.Group, error) {
	return store.View(s.db, func(tx *store.Tx) (*groupv1.Group, error) {
		group := executingGroup(ctx)
		if self, ok := s.groups.Get(tx, group); ok && request.GetName() == group {
			return self, nil
		}
		return getVisible(tx, s.groups, group, request.GetName())
	})
}

func (s *groups) ListGroups(ctx context.Context, request *groupv1.ListGroupsRequest) (*groupv1.ListGroupsResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*groupv1.ListGroupsResponse, error) {
		found := s.visible(tx, executingGroup(ctx), every)
		sortBy(found, groupField(request.GetSorting().GetField()), request.GetSorting().GetOrder())
		return &groupv1.ListGroupsResponse{Groups: found}, nil
	})
}

// SearchGroups matches display name or description, whichever are given;
// names narrows the search to those groups.
func (s *groups) SearchGroups(ctx context.Context, request *groupv1.SearchGroupsRequest) (*groupv1.SearchGroupsResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*groupv1.SearchGroupsResponse, error) {
		name, description := request.GetDisplayName(), request.GetDescription()
		found := s.visible(tx, executingGroup(ctx), func(group *groupv1.Group) bool {
			if len(request.GetNames()) > 0 && !slices.Contains(request.GetNames(), group.GetName()) {
				return false
			}
			return name == "" && description == "" ||
				name != "" && containsFold(group.GetDisplayName(), name) ||
				description != "" && containsFold(group.GetDescription(), description)
		})
		sortBy(found, groupField(request.GetSorting().GetField()), request.GetSorting().GetOrder())
		return &groupv1.SearchGroupsResponse{Groups: found}, nil
	})
}

func groupField(field string) func(*groupv1.Group) string {
	switch field {
	case "name":
		return (*groupv1.Group).GetName
	case "display_name":
		return (*groupv1.Group).GetDisplayName
	}
	return nil
}

// sortBy sorts by a field, ascending unless told otherwise; without a field
// the order of creation stands, or is reversed.
func sortBy[T proto.Message](resources []T, field func(T) string, order typev1.SortingOrder) {
	descending := order == typev1.SortingOrder_SORTING_ORDER_DESC
	if field == nil {
		if descending {
			slices.Reverse(resources)
		}
		return
	}
	slices.SortStableFunc(resources, func(a, b T) int {
		if descending {
			a, b = b, a
		}
		return cmp.Compare(field(a), field(b))
	})
}
