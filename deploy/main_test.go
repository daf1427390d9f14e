package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// build is where the program is built. It is set by TestMain.
var build string

func TestMain(m *testing.M) {
	var err error
	if build, err = os.MkdirTemp("", "mesh-gateway-deploy-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(build); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// program builds mesh-gateway and returns its path.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(build, "mesh-gateway")
	output, err := exec.Command("go", "-C", "..", "build", "-o", path, "./cmd/mesh-gateway").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return path, nil
})

// run runs a tool, which must succeed, and returns what it says on standard error.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	// Debian has haproxy where only root looks for programs.
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Fatalf("%s is missing: .ci/deploy installs it", name)
		}
	}
	command := exec.Command(path, args...)
	var output, stderr bytes.Buffer
	command.Stdout, command.Stderr = &output, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", command, err, &output, &stderr)
	}
	return stderr.String()
}

// glob lists files, of which there must be some.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files, %v", pattern, err)
	}
	return files
}
