package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine says where and with what the figures were taken.
type machine struct {
	Time   time.Time `json:"time"`
	Commit string    `json:"commit"`
	Go     string    `json:"go"`
	System string    `json:"system"`
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	// Load is the number of processes that wanted a core over the minute before.
	Load float64 `json:"load_average"`
}

// describe returns the machine and the root of the repository.
func describe(ctx context.Context) (m machine, root string, err error) {
	root, err = output(ctx, ".", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/meshtrade/mesh-gateway")
	if err != nil {
		return m, "", fmt.Errorf("finding the repository: %w (run this as: go -C bench run .)", err)
	}
	m = machine{
		Time: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), Cores: runtime.NumCPU(),
		Commit: "unknown", System: runtime.GOOS + "/" + runtime.GOARCH, CPU: "unknown",
	}
	if commit, err := output(ctx, root, "git", "describe", "--always", "--dirty", "--abbrev=10"); err == nil {
		m.Commit = commit
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += ", kernel " + strings.TrimSpace(string(release))
	}
	if info, err := os.Open("/proc/cpuinfo"); err == nil {
		if model, err := findValue(info, "model name"); err == nil {
			m.CPU = strings.TrimLeft(model, ": \t")
		}
		_ = info.Close()
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(load), " ")
		m.Load, _ = strconv.ParseFloat(first, 64)
	}
	return m, root, nil
}

func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, program, args...) //nolint:gosec // programs that this file names
	command.Dir = dir
	out, err := command.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%s: %w: %s", program, err, failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

func (m machine) markdown() string {
	text := fmt.Sprintf("%s, commit %s, %s, %s, %d × %s\n", m.Time.Format(time.RFC3339), m.Commit, m.Go, m.System, m.Cores, m.CPU)
	if m.Load > 0.5*float64(m.Cores) {
		text += fmt.Sprintf("\nThe machine was busy before the start (load average %.1f on %d cores): expect wide ranges.\n", m.Load, m.Cores)
	}
	return text
}
