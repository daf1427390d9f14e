// Package redis runs Redis servers for tests, from Debian's package redis-server.
package redis

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// Password is that of every server.
	Password = "correct-horse-battery-staple"

	startTime = 30 * time.Second
	pollTime  = 20 * time.Millisecond
)

// Server is an empty Redis server. It listens on a Unix socket alone, and keeps nothing when it is
// killed.
type Server struct {
	dir     string
	process *exec.Cmd
	log     *bytes.Buffer
}

// New returns a server that does not run.
func New(t testing.TB) *Server {
	t.Helper()
	// The path of a socket has 107 bytes at most, which that of t.TempDir may exceed.
	dir, err := os.MkdirTemp("", "redis-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: dir}
	t.Cleanup(func() {
		s.Kill(t)
		_ = os.RemoveAll(dir)
	})
	return s
}

// Start runs a server until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := New(t)
	s.Run(t)
	return s
}

func (s *Server) socket() string { return filepath.Join(s.dir, "redis.sock") }

// URL returns the URL of the server. A machine that is busy with tests needs longer than the default
// to answer.
func (s *Server) URL() string {
	return (&url.URL{Scheme: "unix", User: url.UserPassword("", Password), Path: s.socket(), RawQuery: "read_timeout=2s"}).String()
}

// Run starts the server, and waits until it answers.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	s.process = exec.CommandContext(context.Background(), "redis-server",
		"--port", "0", "--unixsocket", s.socket(), "--requirepass", Password, "--save", "", "--appendonly", "no", "--dir", s.dir)
	s.log = new(bytes.Buffer)
	s.process.Stdout, s.process.Stderr = s.log, s.log
	if err := s.process.Start(); err != nil {
		t.Fatalf("%v; run: apt-get install redis-server", err)
	}
	client := s.Client(t)
	for deadline := time.Now().Add(startTime); client.Ping(context.Background()).Err() != nil; time.Sleep(pollTime) {
		if time.Now().After(deadline) {
			s.Kill(t)
			t.Fatalf("Redis did not start:\n%s", s.log)
		}
	}
}

// Client returns a client of the server.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Kill ends the server at once. It does nothing if the server does not run.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.process == nil {
		return
	}
	s.signal(t, syscall.SIGKILL)
	_ = s.process.Wait() // it was killed
	s.process = nil
}

// Pause makes the server silent until Continue. Its connections stay open.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
}

// Continue ends Pause.
func (s *Server) Continue(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

func (s *Server) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := s.process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}
