package main

import (
	"fmt"
	"runtime"
)

type versionCommand struct{}

// Run prints one line: the version of the gateway, the release of Go that built
// it, and the platform that it was built for.
func (versionCommand) Run(std streams) error {
	_, err := fmt.Fprintf(std.out, "mesh-gateway %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
