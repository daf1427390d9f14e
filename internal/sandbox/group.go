package sandbox

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// groups is the GroupService.
type groups struct {
	groupv1.UnimplementedGroupServiceServer
	store *store
}

// visible is what a group sees of the tree: itself, which is in none of its own
// owners, and all below it.
func (s *groups) visible(group string, matches func(*groupv1.Group) bool) []*groupv1.Group {
	var found []*groupv1.Group
	if self := s.store.groups.byName[group]; matches(self) {
		found = append(found, self)
	}
	return append(found, s.store.groups.visible(group, matches)...)
}

func (s *groups) CreateGroup(ctx context.Context, request *groupv1.CreateGroupRequest) (*groupv1.Group, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	group := request.GetGroup()
	if err := mayCreate(executingGroup(ctx), group.GetOwner()); err != nil {
		return nil, err
	}
	name, err := s.store.name("groups")
	if err != nil {
		return nil, err
	}
	created := &groupv1.Group{
		Name:        name,
		Owner:       group.GetOwner(),
		Owners:      s.store.path(group.GetOwner()),
		DisplayName: group.GetDisplayName(),
		Description: group.GetDescription(),
	}
	return created, s.store.groups.put(created)
}

func (s *groups) UpdateGroup(ctx context.Context, request *groupv1.UpdateGroupRequest) (*groupv1.Group, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	executing, name := executingGroup(ctx), request.GetGroup().GetName()
	if name == executing {
		// A group sees itself, but belongs to the one above.
		return nil, notOwned(executing, s.store.groups.byName[name])
	}
	updated, err := s.store.groups.getForUpdate(executing, name)
	if err != nil {
		return nil, err
	}
	updated.DisplayName = request.GetGroup().GetDisplayName()
	updated.Description = request.GetGroup().GetDescription()
	return updated, s.store.groups.put(updated)
}

func (s *groups) GetGroup(ctx context.Context, request *groupv1.GetGroupRequest) (*groupv1.Group, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	if group := executingGroup(ctx); request.GetName() == group {
		return s.store.groups.byName[group], nil
	}
	return s.store.groups.getVisible(executingGroup(ctx), request.GetName())
}

func (s *groups) ListGroups(ctx context.Context, request *groupv1.ListGroupsRequest) (*groupv1.ListGroupsResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	found := s.visible(executingGroup(ctx), every)
	sortBy(found, groupField(request.GetSorting().GetField()), request.GetSorting().GetOrder())
	return &groupv1.ListGroupsResponse{Groups: found}, nil
}

// SearchGroups matches display name or description, whichever are given;
// names narrows the search to those groups.
func (s *groups) SearchGroups(ctx context.Context, request *groupv1.SearchGroupsRequest) (*groupv1.SearchGroupsResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	name, description := request.GetDisplayName(), request.GetDescription()
	found := s.visible(executingGroup(ctx), func(group *groupv1.Group) bool {
		if len(request.GetNames()) > 0 && !slices.Contains(request.GetNames(), group.GetName()) {
			return false
		}
		return name == "" && description == "" ||
			name != "" && containsFold(group.GetDisplayName(), name) ||
			description != "" && containsFold(group.GetDescription(), description)
	})
	sortBy(found, groupField(request.GetSorting().GetField()), request.GetSorting().GetOrder())
	return &groupv1.SearchGroupsResponse{Groups: found}, nil
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
