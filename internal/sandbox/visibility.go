package sandbox

import (
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
)

// visible returns what a READ in the executing group sees: what belongs to it or to a group below
// it.
func visible[T store.Record](tx *store.Tx, table store.Table[T], group string, matches func(T) bool) []T {
	var found []T
	for r := range table.All(tx) {
		if slices.Contains(r.GetOwners(), group) && matches(r) {
			found = append(found, r)
		}
	}
	return found
}

// every matches any record.
func every[T store.Record](T) bool { return true }

// getVisible returns a record for a READ. It returns NOT_FOUND if the record does not exist or
// belongs neither to the group nor to a group below it.
func getVisible[T store.Record](tx *store.Tx, table store.Table[T], group, name string) (T, error) {
	if r, ok := table.Get(tx, name); ok && slices.Contains(r.GetOwners(), group) {
		return r, nil
	}
	var none T
	return none, status.Errorf(codes.NotFound, "%s does not exist or is not visible to %s. A group sees its own resources and those of the groups below it.", name, group)
}

// resource is what every resource of Mesh has in common.
type resource interface {
	proto.Message
	store.Record
}

// getForUpdate returns a copy of a resource for a WRITE, which changes it and puts it back. It
// returns PERMISSION_DENIED if the resource is visible but does not belong to the group.
func getForUpdate[T resource](tx *store.Tx, table store.Table[T], group, name string) (T, error) {
	r, err := getVisible(tx, table, group, name)
	if err != nil {
		return r, err
	}
	if r.GetOwner() != group {
		var none T
		return none, notOwned(group, r)
	}
	return proto.CloneOf(r), nil
}

// notOwned returns the error of a WRITE to a resource that is visible to the group but does not
// belong to it.
func notOwned(group string, r store.Record) error {
	if r.GetOwner() == "" {
		return status.Errorf(codes.PermissionDenied, "%s is the root of the tree. No group owns it, so it cannot be changed.", r.GetName())
	}
	return status.Errorf(codes.PermissionDenied,
		"%s belongs to %s. Send that group as x-group instead of %s.", r.GetName(), r.GetOwner(), group)
}

// mayCreate checks that a new resource is created in the executing group.
func mayCreate(group, owner string) error {
	if owner != group {
		return status.Errorf(codes.PermissionDenied,
			"The owner of a new resource must be the executing group, %s, not %s.", group, owner)
	}
	return nil
}
