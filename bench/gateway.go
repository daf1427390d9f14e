package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const meshGateway = "mesh-gateway"

// buildGateway builds mesh-gateway from the repository at root, with the dependencies of
// its own go.mod, and returns the path of the program in dir.
func buildGateway(ctx context.Context, root, dir string) (string, error) {
	program := filepath.Join(dir, meshGateway)
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/mesh-gateway") //nolint:gosec // a path of ours
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building mesh-gateway: %w\n%s", err, out)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", err
	}
	if info.GoVersion != runtime.Version() {
		return "", fmt.Errorf("mesh-gateway was built with %s and this program with %s: "+
			"they cannot be compared; set GOTOOLCHAIN to one of them", info.GoVersion, runtime.Version())
	}
	return program, nil
}

// startGateway runs mesh-gateway with all of its middleware, under the name of a peer. The
// rate limits are counted and never reached. The access log goes to a file, as each
// process's does.
func startGateway(dir string, p peer, program, upstream string) (*process, error) {
	command := exec.Command(program, append([]string{"serve", //nolint:gosec // the one just built
		"--store", p.store,
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--upstream", upstream, "--upstream-plaintext",
		"--rate-limit-read", "1000000/1s", "--rate-limit-write", "1000000/1s",
		// All clients have one key, which may hold a quarter.
		"--max-inflight-bytes", "2147483648",
	}, p.flags...)...)
	command.Env = p.environment
	return launch(dir, p.name, gatewayAnnouncement, command)
}

// gatewayAnnouncement reads what mesh-gateway prints when it listens: a name and a URL
// a line.
func gatewayAnnouncement(p *process, line string) bool {
	switch name, url, _ := strings.Cut(line, "http://"); strings.TrimSpace(name) {
	case "Mesh API":
		p.address = strings.TrimSuffix(url, "/v1")
	case "Admin":
		p.side = url
	}
	return p.address != "" && p.side != ""
}
