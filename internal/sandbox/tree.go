package sandbox

import (
	"slices"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
)

// path is the way from the root of the tree down to the group, both included: the owners of a
// resource that the group owns.
func (m *mesh) path(tx *store.Tx, group string) []string {
	found, _ := m.groups.Get(tx, group)
	return append(slices.Clone(found.GetOwners()), group)
}

// reaches reports whether the group exists and is the upper one or below it.
func (m *mesh) reaches(tx *store.Tx, upper, group string) bool {
	found, exists := m.groups.Get(tx, group)
	return exists && (group == upper || slices.Contains(found.GetOwners(), upper))
}

// clientOf is the compliance client that owns the group: the nearest one on the way up the tree,
// nil where there is none. Of two in one group it is the older.
func (m *mesh) clientOf(tx *store.Tx, group string) *clientv1.Client {
	for _, owner := range slices.Backward(m.path(tx, group)) {
		for client := range m.clients.Owned(tx, owner) {
			return client
		}
	}
	return nil
}
