package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
)

// patience bounds what a test waits for. It is far more than anything takes.
const patience = 30 * time.Second

// word is the nth word of the first line that begins with label.
func word(t *testing.T, output *meshtest.Transcript, label string, n int) string {
	t.Helper()
	output.Wait(t, label)
	for line := range strings.Lines(output.String()) {
		if strings.HasPrefix(line, label) {
			return strings.TrimSuffix(strings.Fields(line)[n], ",")
		}
	}
	t.Fatalf("no line begins with %q", label)
	return ""
}

// inProcess is a run of the program that a test can stop.
type inProcess struct {
	stdout, stderr *meshtest.Transcript
	stop           context.CancelCauseFunc
	// status waits for the end.
	status func() int
}

// runUntilStopped runs the program in this process until the test ends at the
// latest.
func runUntilStopped(t *testing.T, args ...string) *inProcess {
	t.Helper()
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan int, 1)
	p := &inProcess{meshtest.NewTranscript(), meshtest.NewTranscript(), stop, sync.OnceValue(func() int { return <-ended })}
	go func() { ended <- run(ctx, args, streams{p.stdout, p.stderr}) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop(nil)
		p.status()
	})
	return p
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// begin sends a request that creates a group and that the sandbox answers after
// the delay. It returns once the gateway is reading the body; the status, or the
// error, comes later.
func begin(t *testing.T, base, delay string) <-chan string {
	t.Helper()
	caller := sandbox.Seeded()[0]
	begun, answered := make(chan struct{}), make(chan string, 1)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(begun) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/groups",
		strings.NewReader(`{"owner": "`+caller.Group+`", "displayName": "A group"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"X-Api-Key": {caller.APIKey}, "X-Group": {caller.Group}, "Content-Type": {"application/json"},
		"Expect": {"100-continue"}, "X-Sandbox-Fault": {"slow=" + delay}}
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		answered <- response.Status
	}()
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("the request did not begin")
	}
	return answered
}

// monitorOrder opens a stream, waits for its first message and then reads on.
func monitorOrder(t *testing.T, base string) {
	t.Helper()
	caller := sandbox.Seeded()[0]
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/limit_orders/00000000000000000000000006:monitor", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"X-Api-Key": {caller.APIKey}, "X-Group": {caller.Group}}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := response.Body.Read(make([]byte, 1)); err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err)
	}
	go func() {
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
	}()
}

// TestInterruptSaysWhatItWaitsFor interrupts a gateway with calls and streams
// open.
func TestInterruptSaysWhatItWaitsFor(t *testing.T) {
	for _, test := range []struct {
		name           string
		calls, streams int
		cause          error
		want           string
	}{
		{"one call", 1, 0, server.ErrInterrupted, "finishing 1 request; press Ctrl-C again to quit\n"},
		{"two calls and a stream, which ends by itself", 2, 1, server.ErrInterrupted, "finishing 2 requests; press Ctrl-C again to quit\n"},
		{"streams only", 0, 2, server.ErrInterrupted, ""},
		{"nothing in flight", 0, 0, server.ErrInterrupted, ""},
		{"SIGTERM, which is nobody at a terminal", 1, 0, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := runUntilStopped(t, "serve", "--sandbox", "--sandbox-clock", "manual", "--listen", "127.0.0.1:0", "--admin-listen", "")
			base := word(t, p.stdout, "Mesh API", 2)
			var answers []<-chan string
			for range test.calls {
				answers = append(answers, begin(t, base, "3s"))
			}
			for range test.streams {
				monitorOrder(t, base)
			}
			p.stop(test.cause)
			for _, answer := range answers {
				if got := <-answer; got != "200 OK" {
					t.Errorf("a call in flight gets %s", got)
				}
			}
			if status := p.status(); status != 0 {
				t.Errorf("exit status %d", status)
			}
			var got strings.Builder
			for line := range strings.Lines(p.stderr.String()) {
				if !strings.HasPrefix(line, "{") { // the log is JSON
					got.WriteString(line)
				}
			}
			if got.String() != test.want {
				t.Errorf("stderr says %q, want %q", got.String(), test.want)
			}
		})
	}
}

func TestInterruptOfTheSandboxAlone(t *testing.T) {
	p := runUntilStopped(t, "sandbox", "--listen", "127.0.0.1:0")
	conn, err := grpc.NewClient(word(t, p.stdout, "Mesh gRPC", 2), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	caller := sandbox.Seeded()[0]
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", caller.APIKey, "x-group", caller.Group, "x-sandbox-fault", "slow=3s")
	// A unary call in its parts, to know that it was sent. It is in flight once the
	// server has answered a later one over the same connection.
	call, err := conn.NewStream(ctx, new(grpc.StreamDesc), groupv1.GroupService_CreateGroup_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(call.SendMsg(&groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: caller.Group, DisplayName: "A group"}}), call.CloseSend())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), new(healthv1.HealthCheckRequest)); err != nil {
		t.Fatal(err)
	}
	p.stop(server.ErrInterrupted)
	if err := call.RecvMsg(new(groupv1.Group)); err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if status := p.status(); status != 0 || p.stderr.String() != "finishing 1 request; press Ctrl-C again to quit\n" {
		t.Errorf("exit status %d, stderr %q", status, p.stderr)
	}
}

// build builds the program and returns its path.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "mesh-gateway")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// TestSignalsTwice sends real signals to a process with a call in flight.
func TestSignalsTwice(t *testing.T) {
	binary := build(t)
	spawn := func(t *testing.T) (command *exec.Cmd, base string, stderr *meshtest.Transcript) {
		t.Helper()
		stdout, stderr := meshtest.NewTranscript(), meshtest.NewTranscript()
		command = exec.CommandContext(t.Context(), binary, "serve", "--sandbox", "--listen", "127.0.0.1:0", "--admin-listen", "")
		command.Stdout, command.Stderr = stdout, stderr
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			http.DefaultClient.CloseIdleConnections()
			if command.ProcessState == nil {
				_ = command.Process.Kill()
				_ = command.Wait()
			}
		})
		return command, word(t, stdout, "Mesh API", 2), stderr
	}
	send := func(t *testing.T, command *exec.Cmd, signal os.Signal) {
		t.Helper()
		if err := command.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("a second Ctrl-C quits", func(t *testing.T) {
		command, base, stderr := spawn(t)
		answer := begin(t, base, "25s")
		send(t, command, os.Interrupt)
		stderr.Wait(t, "finishing 1 request; press Ctrl-C again to quit")
		send(t, command, os.Interrupt)
		_ = command.Wait() // the state says how it ended
		state := command.ProcessState.Sys().(syscall.WaitStatus)
		if state.Signal() != syscall.SIGINT { // -1 if it exited
			t.Errorf("the program ended with %s, want the signal", command.ProcessState)
		}
		if got := <-answer; got == "200 OK" {
			t.Error("the call was answered, so the program did not quit")
		}
	})
	t.Run("a second SIGTERM changes nothing", func(t *testing.T) {
		command, base, stderr := spawn(t)
		answer := begin(t, base, "3s")
		send(t, command, syscall.SIGTERM)
		awaitRefusal(t, strings.TrimSuffix(strings.TrimPrefix(base, "http://"), "/v1"))
		send(t, command, syscall.SIGTERM)
		if got := <-answer; got != "200 OK" {
			t.Errorf("the call in flight gets %s", got)
		}
		if err := command.Wait(); err != nil || strings.Contains(stderr.String(), "Ctrl-C") {
			t.Errorf("%v\n%s", err, stderr)
		}
	})
}

// awaitRefusal waits until connections are refused.
func awaitRefusal(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		conn.Close()
	}
	t.Fatalf("%s still accepts connections", address)
}

// TestAdminAddressOfASecondSandbox takes the default admin address away.
func TestAdminAddressOfASecondSandbox(t *testing.T) {
	taken := takenAddress(t)
	for _, test := range []struct {
		name  string
		flags []string
		moves bool
	}{
		{"sandbox, by default", []string{"--sandbox"}, true},
		{"sandbox, as given", []string{"--sandbox", "--admin-listen", taken}, false},
		{"live, by default", nil, false},
		{"live, as given", []string{"--admin-listen", taken}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := server.New(slog.New(slog.DiscardHandler), 0)
			defer s.Close()
			command := parseServe(t, test.flags...)
			address, moved, err := command.serveAdmin(s, taken, http.NotFoundHandler())
			if moved != test.moves || (err == nil) != test.moves {
				t.Fatalf("%v, moved %t, %v", address, moved, err)
			}
			if !test.moves {
				return
			}
			if address.String() == taken {
				t.Errorf("it listens on %s", address)
			}
			var out bytes.Buffer
			command.announce(&out, addresses{api: address, admin: address, adminMoved: moved}, nil)
			want := "Admin      http://" + address.String() + "  (a free port, because 127.0.0.1:9090 is in use)\n"
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s does not say %s", out.String(), want)
			}
		})
	}
}
