package main

import (
	"fmt"
	"runtime"
)

type versionCommand struct{}

// Run prints one line: the version, the Go it was built with, the platform.
func (versionCommand) Run(std streams) error {
	_, err := fmt.Fprintf(std.out, "mesh-gateway %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
