package main

import (
	"fmt"

	"github.com/meshtrade/mesh-gateway/openapi"
)

type openAPICommand struct {
	Format    openapi.Format `default:"json" enum:"json,yaml,swagger2" help:"json or yaml for OpenAPI 3.1, swagger2 for Swagger 2.0 (${default})."`
	PublicURL string         `name:"public-url" placeholder:"URL" help:"What clients reach the gateway by, as for serve."`
	Sandbox   bool           `help:"With what only a sandbox has."`
}

func (c openAPICommand) deployment() openapi.Deployment {
	return openapi.Deployment{PublicURL: c.PublicURL, Sandbox: c.Sandbox}
}

// Validate checks the flags.
func (c openAPICommand) Validate() error {
	if err := c.deployment().Validate(); err != nil {
		return fmt.Errorf("--public-url: %w", err)
	}
	return nil
}

// Run prints the document that a gateway of the same flags serves at
// /openapi.json, /openapi.yaml or /swagger.json.
func (c openAPICommand) Run(std streams) error {
	content, err := openapi.Write(c.Format, c.deployment())
	if err != nil {
		return err
	}
	_, err = std.out.Write(content)
	return err
}
