package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// routesCommand shares the variables of what is served with serve.
type routesCommand struct {
	File   config.File   `embed:""`
	Served config.Served `embed:""`
}

// Help follows the summary in the command's help.
func (routesCommand) Help() string {
	return "ACCESS is read or write, followed by: stream, if the answer is a stream; public, if no API key is needed; " +
		"verified, if the caller's compliance client must be verified. `mesh-gateway openapi` has the parameters and messages. " + aboutFlags
}

// Run prints one line per route, in the order of the contract.
func (c routesCommand) Run(std streams) error {
	rules, err := c.Served.Rules()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "METHOD\tPATH\tRPC\tACCESS")
	for _, method := range rules.Methods() {
		for _, binding := range method.Bindings {
			fmt.Fprintf(table, "%s\t%s\t%s.%s\t%s\n", binding.Verb, binding.Template,
				method.Descriptor.Parent().Name(), method.Descriptor.Name(), rule(method))
		}
	}
	return table.Flush()
}

// rule is a method's access rule in a few words.
func rule(method *contract.Method) string {
	words := []string{"read"}
	if method.Write {
		words[0] = "write"
	}
	if method.Streams() {
		words = append(words, "stream")
	}
	if method.Public {
		words = append(words, "public")
	}
	if method.Verified {
		words = append(words, "verified")
	}
	return strings.Join(words, " ")
}
