package main

import (
	"fmt"
	"log/slog"

	"github.com/meshtrade/mesh-gateway/internal/config"
)

// configCommand is for the operator of a gateway. Its commands take the flags of serve, so that in
// the environment of a gateway they see its configuration.
type configCommand struct {
	Print configPrintCommand `cmd:"" help:"Print the configuration that serve would use with these flags, and where each value is from."`
	Check configCheckCommand `cmd:"" help:"Check the configuration that serve would use with these flags."`
}

type configPrintCommand struct {
	Config config.Config `embed:""`
}

// Help follows the summary in the command's help.
func (*configPrintCommand) Help() string {
	return "The output is a configuration file. Passwords are replaced by xxxxx. " + aboutFlags
}

// Run prints the configuration.
func (c *configPrintCommand) Run(std streams) error { return c.Config.Print(std.out) }

type configCheckCommand struct {
	Config config.Config `embed:""`
}

// Help follows the summary in the command's help.
func (*configCheckCommand) Help() string {
	return "It lists every mistake with its file, line and column, or its flag or environment variable. The exit status is 2 if there is one, and 1 if a certificate cannot be used. It connects to nothing. " + aboutFlags
}

// Run is called for a configuration without mistakes.
func (c *configCheckCommand) Run(std streams) error {
	if _, err := findCredentials(&c.Config); err != nil {
		return err
	}
	if _, err := openCertificates(&c.Config, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	_, err := fmt.Fprintln(std.out, "the configuration is valid")
	return err
}
