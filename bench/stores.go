package main

import (
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
	"strings"
	"syscall"
	"time"
)

const (
	memoryStore = "memory"
	// noKey is mesh-gateway with requests that have no Idempotency-Key.
	noKey = "without a key"
)

// errNoPostgres means that PostgreSQL is not installed.
var errNoPostgres = errors.New("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin/postgres")

// newStorePeers returns mesh-gateway without keys, with which the others are compared, and
// with keys in each store. postgresURL is "" if there is no PostgreSQL.
func newStorePeers(dir, postgresURL string) []peer {
	nothing := func(*row) string { return "" }
	peers := []peer{
		{name: noKey, lacks: nothing, store: memoryStore},
		{name: "memory", lacks: nothing, store: memoryStore, keyed: true},
		{name: "file", lacks: nothing, store: "file:" + filepath.Join(dir, "keys.db"), keyed: true},
	}
	if postgresURL != "" {
		peers = append(peers, peer{name: "postgres", lacks: nothing, store: postgresURL, keyed: true})
	}
	return peers
}

// measureStores measures the row with a new Idempotency-Key in each request, in each store.
func measureStores(ctx context.Context, f *field, o *options, r *row) (_ *report, err error) {
	keyed := &report{
		Requests: o.requests, rows: []*row{r},
		title: "A write with an Idempotency-Key, by store",
		Notes: []string{
			"The file and the database are in " + os.TempDir() + ", whose disk decides how long a write to them takes.",
		},
	}
	postgresURL := ""
	switch server, err := startPostgres(ctx, f); {
	case errors.Is(err, errNoPostgres):
		keyed.Notes = append(keyed.Notes, "postgres: not measured: "+err.Error()+".")
	case err != nil:
		return nil, err
	default:
		defer server.stop()
		postgresURL = server.url()
		keyed.Notes = append(keyed.Notes, "PostgreSQL runs on this machine and is reached over a Unix socket. Its own CPU time is not in the figures.")
	}
	keyed.peers = newStorePeers(f.dir, postgresURL)
	return keyed, keyed.measureAll(ctx, f, o)
}

// postgres is a PostgreSQL server with default settings and an empty database, prepared for
// mesh-gateway. It listens on a Unix socket alone.
type postgres struct {
	dir     string
	process *process
}

// startPostgres runs the newest PostgreSQL that is installed from Debian's package.
func startPostgres(ctx context.Context, f *field) (_ *postgres, err error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return nil, errNoPostgres
	}
	slices.Sort(found)
	program := found[len(found)-1]
	// It is not in f.dir, which only this user can read, and whose path may be too long for a
	// socket.
	s := new(postgres)
	if s.dir, err = os.MkdirTemp("", "pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	command := exec.Command
	if os.Geteuid() == 0 {
		// PostgreSQL refuses to run as root. Debian's package has a user for it.
		uid, gid, err := postgresUser()
		if err != nil {
			return nil, err
		}
		if err := os.Chown(s.dir, int(uid), int(gid)); err != nil {
			return nil, err
		}
		command = func(program string, args ...string) *exec.Cmd {
			c := exec.Command(program, args...) //nolint:gosec // found above
			runAs(c, uid, gid)
			return c
		}
	}
	data := filepath.Join(s.dir, "data")
	initdb := command(filepath.Join(filepath.Dir(program), "initdb"), "--pgdata", data, "--username", "mesh", "--auth", "trust", "--encoding", "UTF8", "--no-locale")
	initdb.Dir = s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	// Its log is on standard error, where no announcement is read.
	server := command("/bin/sh", "-c", `exec "$@" 2>&1`, "sh", program, "-D", data, "-k", s.dir, "-c", "listen_addresses=")
	server.Dir = s.dir
	if s.process, err = launch(f.dir, "postgres-server", func(_ *process, line string) bool {
		return strings.Contains(line, "ready to accept connections")
	}, server); err != nil {
		return nil, err
	}
	if err := s.process.ready(ctx); err != nil {
		return nil, err
	}
	migrate := exec.CommandContext(ctx, f.gateway, "store", "migrate", "--store", s.url()) //nolint:gosec // the one just built
	if out, err := migrate.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mesh-gateway store migrate: %w\n%s", err, out)
	}
	return s, nil
}

func postgresUser() (uid, gid uint32, err error) {
	account, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, err
	}
	u, uidErr := strconv.ParseUint(account.Uid, 10, 32)
	g, gidErr := strconv.ParseUint(account.Gid, 10, 32)
	return uint32(u), uint32(g), errors.Join(uidErr, gidErr)
}

func (s *postgres) url() string {
	return "postgres://mesh@/postgres?" + url.Values{"host": {s.dir}}.Encode()
}

// stop ends the server and removes its data.
func (s *postgres) stop() {
	if s.process != nil {
		// Its processes end with SIGINT, and some remain after SIGKILL.
		_ = s.process.command.Process.Signal(syscall.SIGINT)
		select {
		case <-s.process.done:
		case <-time.After(startTimeout):
			s.process.stop()
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}
