package apidoc

import "github.com/meshtrade/mesh-gateway/internal/wire"

// ownRequests says who may control the sandbox.
const ownRequests = "Pages of other sites are not allowed to do this, and the `Host` must be `localhost`, a loopback address or the host of `--public-url`."

// addSandbox describes the operations that only the sandbox has.
func (d *document) addSandbox() {
	done := object{"description": "Done.", "headers": headerRefs("RequestID", "Environment")}
	reset := errorRefs(map[string]string{"403": "PermissionDenied", "default": "Error"})
	reset["204"] = done
	d.Paths[wire.ResetPath] = object{"post": object{
		"operationId": "ResetSandbox", "tags": []string{sandboxTag}, "security": []object{},
		"summary":     "Resets the sandbox",
		"description": "Restores the initial state and closes all streams. " + ownRequests,
		"responses":   reset,
	}}
	advance := errorRefs(map[string]string{"400": "BadRequest", "403": "PermissionDenied", "default": "Error"})
	advance["204"] = done
	d.Paths[wire.AdvancePath] = object{"post": object{
		"operationId": "AdvanceSandbox", "tags": []string{sandboxTag}, "security": []object{},
		"summary":     "Advances the sandbox clock",
		"description": "For a sandbox whose clock is `manual`. Everything that is due in that time happens, of at most one hour per request. Other requests are answered meanwhile. " + ownRequests,
		"parameters": []object{{
			"name": wire.AdvanceParameter, "in": "query", "required": true, "example": "5s",
			"schema": object{
				"type": "string", "pattern": `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`,
				"x-mesh-rules": []rule{{"this > duration('0s') && this <= duration('1h')", "must be more than 0 and at most 1h"}},
			},
			"description": "The duration: a number and a unit, such as 1.5s or 10m. It must be more than 0 and at most 1h.",
		}},
		"responses": advance,
	}}
}
