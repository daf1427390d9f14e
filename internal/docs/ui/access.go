package ui

import (
	"cmp"
	"slices"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
	rolev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/role/v1"
)

// guideRole is a role and the operations that list it in the contract.
type guideRole struct {
	Name          string
	Number        int32
	Reads, Writes []string
}

// newRoles returns the roles of the contract and what they may do on this gateway, ordered by number.
func newRoles(o Options) []guideRole {
	var roles []guideRole
	for number, name := range rolev1.Role_name {
		if number == int32(rolev1.Role_ROLE_UNSPECIFIED) {
			continue
		}
		may := func(m *contract.Method) bool { return slices.Contains(m.Roles, rolev1.Role(number)) }
		roles = append(roles, guideRole{
			Name: name, Number: number,
			Reads:  o.operations(func(m *contract.Method) bool { return may(m) && !m.Write }),
			Writes: o.operations(func(m *contract.Method) bool { return may(m) && m.Write }),
		})
	}
	slices.SortFunc(roles, func(a, b guideRole) int { return cmp.Compare(a.Number, b.Number) })
	return roles
}

// operations returns the names of the methods that are served and selected, in the order of the
// contract.
func (o Options) operations(selected func(*contract.Method) bool) []string {
	var names []string
	for _, method := range contract.Methods() {
		if o.serves(method) && selected(method) {
			names = append(names, string(method.Descriptor.Name()))
		}
	}
	return names
}

func (o Options) serves(method *contract.Method) bool {
	return o.Deployment.Serves == nil || o.Deployment.Serves(method.Name())
}

// servesCall reports whether a call is served. The gateway's own operations always are.
func (o Options) servesCall(call examples.Call) bool {
	path, _, _ := strings.Cut(call.Path, "?")
	found, _ := contract.Match(path)
	if found == nil {
		return true
	}
	binding := found.Binding(call.Method)
	return binding == nil || o.serves(binding.Method)
}
