package access

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/spelling"
)

// Name is the name of a method or a service, in a form that [Find] takes.
type Name string

// UnmarshalText checks that there is such a method or service.
func (n *Name) UnmarshalText(text []byte) error {
	*n = Name(text)
	_, err := Find(string(text))
	return err
}

// Find returns the methods of the contract that a name stands for: a method, or all methods of a
// service. The name is the full name of gRPC (meshtrade.wallet.transfer.v1.TransferService, or
// /meshtrade.wallet.transfer.v1.TransferService/CreateTransfer), or a part of it that nothing else
// has, as `mesh-gateway routes` and the OpenAPI document have it (TransferService,
// TransferService.CreateTransfer, CreateTransfer). The error for an unknown name has the nearest one.
func Find(name string) ([]*contract.Method, error) {
	wanted := strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", ".")
	found := names()[wanted]
	switch len(found) {
	case 1:
		return found[0].methods, nil
	case 0:
		return nil, fmt.Errorf("%q is not a method or a service of the Mesh API; did you mean %q?", name, nearest(wanted))
	}
	var all []string
	for _, target := range found {
		all = append(all, target.name)
	}
	return nil, fmt.Errorf("%q is not unique; write one of %s", name, strings.Join(all, ", "))
}

// target is a method or a service, with its full name.
type target struct {
	name    string
	methods []*contract.Method
}

// names are the methods and services by each of their names.
var names = sync.OnceValue(func() map[string][]*target {
	named := make(map[string][]*target)
	add := func(t *target, names ...string) {
		for _, name := range names {
			named[name] = append(named[name], t)
		}
	}
	services := make(map[string]*target)
	for _, method := range contract.Methods() {
		service := string(method.Descriptor.Parent().FullName())
		short := string(method.Descriptor.Parent().Name())
		if services[service] == nil {
			services[service] = &target{name: service}
			add(services[service], service, short)
		}
		services[service].methods = append(services[service].methods, method)
		own := string(method.Descriptor.Name())
		add(&target{service + "/" + own, []*contract.Method{method}}, service+"."+own, short+"."+own, own)
	}
	return named
})

// nearest returns the name with the smallest edit distance, ignoring case.
func nearest(wanted string) string {
	best, least := "", -1
	candidates := make([]string, 0, len(names()))
	for name := range names() {
		candidates = append(candidates, name)
	}
	slices.Sort(candidates) // so that ties do not depend on the order of the map
	for _, name := range candidates {
		if d := spelling.Distance(strings.ToLower(wanted), strings.ToLower(name)); least < 0 || d < least {
			best, least = name, d
		}
	}
	return best
}
