//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// imageUser is the user of the container image.
const imageUser = 65532

// inRoot makes the command run in a root directory as the user of the image. A test that is not run by
// root does so in a user namespace of its own, where it may change the root directory.
func inRoot(cmd *exec.Cmd, root string) {
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: imageUser, Gid: imageUser}
		return
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: imageUser, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: imageUser, HostID: os.Getgid(), Size: 1}}
}

// TestInAnEmptyRoot runs the program as the container image does: built without C, in a root directory
// that has nothing but the program and certificates, which it may read alone. It serves TLS, and its
// upstream has a certificate of the authorities of the system.
func TestInAnEmptyRoot(t *testing.T) {
	authority := meshtest.Issue(t, "authority", aMonth, nil)
	upstream := meshtest.NewUpstream(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{meshtest.Issue(t, "mesh.example", aMonth, authority).TLS()},
	})))

	root := t.TempDir()
	const trusted = "etc/ssl/certs/ca-certificates.crt" // where the Dockerfile has it
	if err := os.MkdirAll(filepath.Join(root, filepath.Dir(trusted)), 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "-C", "..", "build", "-o", filepath.Join(root, "mesh-gateway"), "./cmd/mesh-gateway")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	put(t, root, meshtest.Issue(t, "gateway.example", aMonth, authority))
	if err := os.WriteFile(filepath.Join(root, trusted), authority.Certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		for _, file := range []string{"tls.crt", "tls.key", trusted} {
			if err := os.Chown(filepath.Join(root, file), imageUser, imageUser); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chmod(root, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(root, 0o755) }) // so that it can be removed

	run := func(ctx context.Context, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "/mesh-gateway", args...)
		cmd.Env = nil
		inRoot(cmd, root)
		return cmd
	}
	p := &program{stdout: meshtest.NewTranscript(), stderr: meshtest.NewTranscript()}
	ctx, kill := context.WithCancel(context.Background())
	defer kill()
	cmd := run(ctx, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "", "--drain-delay", "0s",
		"--upstream", upstream.Target, "--tls-cert", "/tls.crt", "--tls-key", "/tls.key")
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := sync.OnceValue(cmd.Wait)
	defer func() { kill(); _ = wait() }()
	p.base = strings.TrimSuffix(strings.Fields(p.stdout.Wait(t, "Mesh API"))[2], "/v1")
	p.client = clientOf(t, true, &tls.Config{RootCAs: authority.Pool()})

	if got := p.call(t, "POST", "/v1/groups", caller(0), newGroup); got.status != http.StatusOK || len(upstream.Calls()) != 1 {
		t.Errorf("a call: %d %s\n%s", got.status, got.body, p.stderr)
	}
	for name, want := range map[string]string{"cwd": root, "root": root, "exe": filepath.Join(root, "mesh-gateway")} {
		if got, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), name)); err != nil || got != want {
			t.Errorf("%s of the program is %s, %v, want %s", name, got, err, want)
		}
	}
	if said, err := run(t.Context(), "healthcheck", "--url", p.base+"/healthz", "--ca", "/"+trusted).CombinedOutput(); err != nil {
		t.Errorf("healthcheck: %v: %s", err, said)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Errorf("%v\n%s", err, p.stderr)
	}
}
