package ui

import (
	"cmp"
	"slices"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	rolev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/role/v1"
)

// guideRole is a role and the operations that list it in the contract.
type guideRole struct {
	Name          string
	Number        int32
	Reads, Writes []string
}

// newRoles returns the roles of the contract, ordered by number.
func newRoles() []guideRole {
	var roles []guideRole
	for number, name := range rolev1.Role_name {
		if number == int32(rolev1.Role_ROLE_UNSPECIFIED) {
			continue
		}
		may := func(m *contract.Method) bool { return slices.Contains(m.Roles, rolev1.Role(number)) }
		roles = append(roles, guideRole{
			Name: name, Number: number,
			Reads:  operations(func(m *contract.Method) bool { return may(m) && !m.Write }),
			Writes: operations(func(m *contract.Method) bool { return may(m) && m.Write }),
		})
	}
	slices.SortFunc(roles, func(a, b guideRole) int { return cmp.Compare(a.Number, b.Number) })
	return roles
}

// operations returns the names of the methods of the contract that are selected.
func operations(selected func(*contract.Method) bool) []string {
	var names []string
	for _, method := range contract.Methods() {
		if selected(method) {
			names = append(names, string(method.Descriptor.Name()))
		}
	}
	return names
}
