package apidoc

import (
	"slices"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// removeSandbox removes the parts that only the sandbox has: its paths, their tag, the parameter
// that injects faults, and the description of the server.
func (d *document) removeSandbox() {
	d.Servers[0].Description = ""
	d.Tags = slices.DeleteFunc(d.Tags, func(tag object) bool { return tag["name"] == sandboxTag })
	for _, group := range d.TagGroups {
		group["tags"] = without(group["tags"], func(name any) bool { return name == sandboxTag })
	}
	fault := parameterRef(faultParameter)["$ref"]
	for path, item := range d.Paths {
		if path == wire.ResetPath || path == wire.AdvancePath {
			delete(d.Paths, path)
			continue
		}
		for _, value := range item {
			operation, _ := value.(object)
			if operation["parameters"] == nil {
				continue
			}
			operation["parameters"] = without(operation["parameters"], func(value any) bool {
				parameter, _ := value.(object)
				return parameter["$ref"] == fault
			})
		}
	}
	delete(child(d.Components, "parameters"), faultParameter)
}

// without returns a JSON list without the unwanted items.
func without(list any, unwanted func(any) bool) []any {
	items, _ := list.([]any)
	return slices.DeleteFunc(items, unwanted)
}
