// Package openapi holds the OpenAPI document of the REST API. It is generated
// from the contract, together with all else, by `go generate ./proto`.
package openapi

import _ "embed"

//go:embed openapi.json
var document string

// JSON returns the document. The slice is the caller's own.
func JSON() []byte { return []byte(document) }
