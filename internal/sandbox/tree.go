package sandbox

import (
	"slices"

	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
)

// path is the way from the root of the tree down to the group, both included:
// the owners of a resource that the group owns.
func (s *store) path(group string) []string {
	return append(slices.Clone(s.groups.byName[group].GetOwners()), group)
}

// reaches reports whether the group exists and is the upper one or below it.
func (s *store) reaches(upper, group string) bool {
	_, exists := s.groups.byName[group]
	return exists && slices.Contains(s.path(group), upper)
}

// clientOf is the compliance client that owns the group: the nearest one on the
// way up the tree, nil where there is none. Of two in one group it is the older.
func (s *store) clientOf(group string) *clientv1.Client {
	for _, owner := range slices.Backward(s.path(group)) {
		if names := s.clients.byOwner[owner]; len(names) > 0 {
			return s.clients.byName[names[0]]
		}
	}
	return nil
}
