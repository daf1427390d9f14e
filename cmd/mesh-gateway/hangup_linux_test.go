package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// TestHangup sends SIGHUP to the built program, which has nothing to reload.
func TestHangup(t *testing.T) {
	binary := build(t)
	// Under nohup the program would inherit an ignored SIGHUP. A signal that is handled here is not inherited.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGHUP)
	defer signal.Stop(handled)
	for _, test := range []struct {
		name     string
		stdin    *os.File // nil is /dev/null, as services have it
		survives bool
	}{
		{"as a service", nil, true},
		{"in a terminal", openTerminal(t), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr := meshtest.NewTranscript(), meshtest.NewTranscript()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, binary, "serve", "--sandbox", "--listen", "127.0.0.1:0", "--admin-listen", "")
			if test.stdin != nil {
				command.Stdin = test.stdin
			}
			command.Stdout, command.Stderr = stdout, stderr
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			p := &program{base: strings.TrimSuffix(word(t, stdout, "Mesh API", 2), "/v1"), stderr: stderr}
			// The signals are handled before the gateway answers.
			answers := func() {
				t.Helper()
				response := p.send(t, "GET", "/v1/groups", "", false)
				response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Error(response.Status)
				}
			}
			answers()
			if err := command.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			if test.survives {
				stderr.Wait(t, "there are no settings to reload")
				answers()
				if err := command.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				if err := command.Wait(); err != nil {
					t.Errorf("after SIGTERM: %v", err)
				}
				return
			}
			err := command.Wait()
			exit, exited := errors.AsType[*exec.ExitError](err)
			if !exited || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGHUP {
				t.Errorf("the gateway ended with %v, want SIGHUP", err)
			}
		})
	}
}

// openTerminal returns a terminal that nobody types into.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return terminal
}
