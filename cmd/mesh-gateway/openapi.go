package main

import "github.com/meshtrade/mesh-gateway/openapi"

type openAPICommand struct{}

// Run prints the document that a running gateway serves at /openapi.json.
func (openAPICommand) Run(std streams) error {
	_, err := std.out.Write(openapi.JSON())
	return err
}
