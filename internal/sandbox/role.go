package sandbox

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	rolev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/role/v1"
)

// assign returns the roles held once those given are added. A role that is
// held already stays held once.
//
// A role can be given only in the executing group or below it: otherwise an
// administrator of one group could make itself one of a group above. A group
// that does not exist is refused alike, which keeps what is above unseen.
func (m *mesh) assign(tx *store.Tx, executing string, held, given []string) ([]string, error) {
	roles := slices.Clone(held)
	for _, role := range given {
		group, number, _ := strings.Cut(role, "/roles/")
		n, err := strconv.ParseInt(number, 10, 32)
		if _, known := rolev1.Role_name[int32(n)]; err != nil || !known {
			return nil, status.Errorf(codes.InvalidArgument, "%s: there is no role with the number %s. See meshtrade.iam.role.v1.Role for the numbers.", role, number)
		}
		if !m.reaches(tx, executing, group) {
			return nil, status.Errorf(codes.PermissionDenied,
				"%s: a role can only be assigned in the executing group %s and the groups below it.", role, executing)
		}
		if !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	return roles, nil
}

// revoke returns the roles held without those given; one not held is no fault.
// It may take a role in any group, since that only lessens what a user can do.
func revoke(held, given []string) []string {
	return slices.DeleteFunc(slices.Clone(held), func(role string) bool { return slices.Contains(given, role) })
}
