package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startTimeout is how long a process may take until it listens.
const startTimeout = 30 * time.Second

// process is a child of this program.
type process struct {
	name    string
	address string // where it serves
	side    string // where its profiles are
	logs    string // the file that its standard error goes to
	keyed   bool   // each request has an Idempotency-Key of its own

	command *exec.Cmd
	stdin   io.Closer
	// announced is closed once address and side are known.
	announced chan struct{}
	// done is closed once the process has ended, and err says how.
	done chan struct{}
	err  error
}

// announcement reads one line of a starting process. It returns true once it has seen
// where the process listens.
type announcement func(p *process, line string) (ready bool)

// readyAnnouncement reads the line of a role.
func readyAnnouncement(p *process, line string) bool {
	n, _ := fmt.Sscanf(line+"\n", readyLine, &p.address, &p.side)
	return n == 2
}

// start runs a program; ready waits until it listens. Its standard error goes to a file
// in dir. It must be called on the main thread (see endWithParent).
func start(dir, name string, announced announcement, program string, args ...string) (*process, error) {
	return launch(dir, name, announced, exec.Command(program, args...)) //nolint:gosec // our own program, or the one just built
}

// launch is start for a command. Its environment is added to that of this program.
func launch(dir, name string, announced announcement, command *exec.Cmd) (*process, error) {
	p := &process{
		name: name, logs: filepath.Join(dir, name+".log"),
		announced: make(chan struct{}), done: make(chan struct{}),
	}
	logs, err := os.OpenFile(p.logs, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = logs.Close() }()

	p.command = command
	p.command.Stderr = logs
	p.command.Env = append(childEnvironment(os.Environ()), command.Env...)
	endWithParent(p.command)
	if p.stdin, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		scanner := bufio.NewScanner(stdout)
		listens := false
		for scanner.Scan() {
			if !listens && announced(p, scanner.Text()) {
				listens = true
				close(p.announced)
			}
		}
		if p.err = p.command.Wait(); p.err == nil {
			p.err = errors.New("exit status 0")
		}
		close(p.done)
	}()
	return p, nil
}

// ready waits until the process listens.
func (p *process) ready(ctx context.Context) error {
	select {
	case <-p.announced:
		return nil
	case <-p.done:
		return p.failure()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(startTimeout):
		return fmt.Errorf("%s does not listen after %s%s", p.name, startTimeout, p.lastLogs())
	}
}

// stop ends the process and waits for its end. The process keeps nothing, so it need
// not end gracefully.
func (p *process) stop() {
	_ = p.stdin.Close()
	if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		fmt.Fprintf(os.Stderr, "bench: %s (process %d) cannot be ended: %v\n", p.name, p.pid(), err)
	}
	<-p.done
}

func (p *process) pid() int { return p.command.Process.Pid }

// failure says that the process ended on its own, nil while it runs.
func (p *process) failure() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %w%s", p.name, p.err, p.lastLogs())
	default:
		return nil
	}
}

// lastLogs returns the end of what the process logged, on lines of its own.
func (p *process) lastLogs() string {
	const most = 2000
	data, err := os.ReadFile(p.logs)
	if err != nil || len(data) == 0 {
		return ""
	}
	return "\n" + strings.TrimSpace(string(data[max(0, len(data)-most):]))
}

// childEnvironment leaves out what would configure mesh-gateway unseen.
func childEnvironment(environment []string) []string {
	var kept []string
	for _, variable := range environment {
		if !strings.HasPrefix(variable, "MESH_GATEWAY_") && !strings.HasPrefix(variable, "OTEL_") {
			kept = append(kept, variable)
		}
	}
	return kept
}
