package main

import (
	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/openapi"
)

// openAPICommand shares the variables of --public-url and --sandbox with serve:
// in the environment of a gateway it prints what that gateway serves.
type openAPICommand struct {
	File      config.File    `embed:""`
	Format    openapi.Format `default:"json" enum:"json,yaml,swagger2" env:"MESH_GATEWAY_OPENAPI_FORMAT" placeholder:"FORMAT" help:"json or yaml for OpenAPI 3.1, swagger2 for Swagger 2.0 in JSON (${default})."`
	PublicURL string         `name:"public-url" placeholder:"URL" help:"URL of the gateway for its clients, such as https://api.example.com, as the API documentation shows it (none)."`
	Served    config.Served  `embed:""`
	Sandbox   bool           `help:"Use the built-in sandbox instead of the live API. No Mesh account is needed."`
}

// Help follows the summary in the command's help.
func (openAPICommand) Help() string { return aboutFlags }

func (c openAPICommand) deployment() openapi.Deployment {
	return openapi.Deployment{PublicURL: c.PublicURL, Sandbox: c.Sandbox}
}

// Validate is called by kong once the flags are read.
func (c openAPICommand) Validate() error {
	if err := c.deployment().Validate(); err != nil {
		return &usageError{"public-url", err}
	}
	return nil
}

// Run prints the document that a gateway with the same flags serves at
// /openapi.json, /openapi.yaml or /swagger.json.
func (c openAPICommand) Run(std streams) error {
	rules, err := c.Served.Rules()
	if err != nil {
		return err
	}
	deployment := c.deployment()
	deployment.Serves = rules.Serves
	content, err := openapi.Write(c.Format, deployment)
	if err != nil {
		return err
	}
	_, err = std.out.Write(content)
	return err
}
