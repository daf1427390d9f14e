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

// clientOf returns the legal entity that a group belongs to: the compliance client of the nearest group
// on the way up the tree that has one, or nil if there is none.
func (m *mesh) clientOf(tx *store.Tx, group string) *clientv1.Client {
	for _, owner := range slices.Backward(m.path(tx, group)) {
		if client := m.ownClient(tx, owner); client != nil {
			return client
		}
	}
	return nil
}

// ownClient returns the compliance client that a group itself owns, or nil if there is none. Of two it
// is the older.
func (m *mesh) ownClient(tx *store.Tx, group string) *clientv1.Client {
	for client := range m.clients.Owned(tx, group) {
		return client
	}
	return nil
}
