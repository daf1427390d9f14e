// Package postgres runs PostgreSQL servers for tests, from Debian's package postgresql.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// startTime is how long a server may take to start, with the recovery after a kill.
	startTime = time.Minute
	pollTime  = 50 * time.Millisecond
)

// Server is a PostgreSQL server with an empty database. It listens on a Unix socket alone.
type Server struct {
	bin, dir string
	settings []string
	as       *syscall.Credential // nil if the tests do not run as root
	process  *exec.Cmd
	log      *bytes.Buffer
}

// Start runs a server until the test ends. settings are those of postgresql.conf, such as fsync=off.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		t.Fatal("PostgreSQL is not installed; run: apt-get install postgresql")
	}
	slices.Sort(found)
	// The path of a socket has 107 bytes at most, which that of t.TempDir may exceed.
	dir, err := os.MkdirTemp("", "pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{bin: found[len(found)-1], dir: dir, settings: settings}
	if os.Geteuid() == 0 {
		// PostgreSQL refuses to run as root. Debian's package has a user for it.
		if s.as, err = credential("postgres"); err == nil {
			err = os.Chown(dir, int(s.as.Uid), int(s.as.Gid))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	initdb := s.command("initdb", "--pgdata", s.data(), "--username", "mesh", "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Run(t)
	t.Cleanup(func() { s.Kill(t) })
	return s
}

func credential(name string) (*syscall.Credential, error) {
	account, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// URL returns the URL of the database.
func (s *Server) URL() string {
	return "postgres://mesh@/postgres?" + url.Values{"host": {s.dir}}.Encode()
}

// Run starts the server after Kill, and waits until it accepts connections.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses="}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	s.process, s.log = s.command("postgres", args...), new(bytes.Buffer)
	s.process.Stdout, s.process.Stderr = s.log, s.log
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			_ = conn.Close(ctx)
			return
		}
		select {
		case <-ctx.Done():
			s.Kill(t)
			t.Fatalf("PostgreSQL did not start: %v\n%s", err, s.log)
		case <-time.After(pollTime):
		}
	}
}

// Kill ends the server at once, so that it recovers when it is started again. It does nothing if the
// server does not run.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.process == nil {
		return
	}
	// SIGQUIT is an immediate shutdown. After SIGKILL, the server would leave processes behind.
	if err := s.process.Process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	_ = s.process.Wait() // its exit status is not 0 after SIGQUIT
	s.process = nil
}

// Exec runs a statement.
func (s *Server) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(ctx, sql, args...)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", sql, err))
	}
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	if s.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	}
	return cmd
}
