package e2e

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/meshtrade/mesh-gateway/e2e/postgres"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

const (
	// callTimeout is the --request-timeout of the gateways, and so the deadline of a call.
	callTimeout = time.Second
	// pause is how long a gateway is paused.
	pause = callTimeout + 500*time.Millisecond
	// callsPerFault is the number of writes from one fault to the next, when there are many.
	callsPerFault = 250
	// faultLimit is how long a write may be without a final answer after the last fault. A write
	// whose gateway was killed is in flight until the margin of 15 seconds has passed.
	faultLimit = time.Minute
)

// TestFaults sends writes with an Idempotency-Key while gateways and the store are killed, paused and
// restarted in the middle of them, and while the upstream delays, refuses, fails and drops calls. It
// then compares what the clients were told with what the upstream did.
//
// FAULT_WRITES is the number of writes for each store, 500 by default. FAULT_SEED repeats a run, as
// far as time allows. FAULT_REPORT is a file that the figures are appended to.
func TestFaults(t *testing.T) {
	writes := number(t, "FAULT_WRITES", 500)
	seed := number(t, "FAULT_SEED", int(time.Now().UnixNano()&0xffff_ffff))
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		suite := &faultSuite{name: "file", store: "file:" + filepath.Join(t.TempDir(), "keys.db"), writes: writes, seed: uint64(seed)}
		suite.run(t, 1, suite.kill, suite.pause, suite.kill, suite.restart)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		server := postgres.Start(t)
		suite := &faultSuite{name: "postgres", store: server.URL(), writes: writes, seed: uint64(seed)}
		if code, _, stderr := command(t, "store", "migrate", "--store", suite.store); code != 0 {
			t.Fatal(stderr)
		}
		killStore := func(t *testing.T, _ int, proceed func()) {
			server.Kill(t)
			proceed()
			server.Run(t)
		}
		killBoth := func(t *testing.T, at int, proceed func()) {
			server.Kill(t)
			suite.programs[at].kill(t)
			proceed()
			server.Run(t)
			suite.start(t, at)
		}
		suite.run(t, 3, suite.kill, killStore, killBoth, suite.pause, suite.restart)
	})
}

// TestPausedBeforeTheCall pauses a gateway after it has claimed a key and before its call, until
// after the deadline. Others may have concluded by then that the call was not made, so it must not
// come.
func TestPausedBeforeTheCall(t *testing.T) {
	server, mesh := postgres.Start(t), meshtest.NewUpstream(t)
	if code, _, stderr := command(t, "store", "migrate", "--store", server.URL()); code != 0 {
		t.Fatal(stderr)
	}
	gateway := func() *program {
		return start(t, "--upstream", mesh.Target, "--upstream-plaintext", "--store", server.URL(), "--request-timeout", callTimeout.String())
	}
	paused, other := gateway(), gateway()
	send := func(p *program, key string) answer {
		return p.call(t, http.MethodPost, "/v1/iam/api_users", http.Header{
			"X-Api-Key": {faultAPIKey}, "X-Group": {faultGroup}, "Idempotency-Key": {key},
		}, fmt.Sprintf(`{"owner": %q, "displayName": %q}`, faultGroup, key))
	}
	// The statement is prepared, so that the next one is executed without the gateway.
	if a := send(paused, "before"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	mesh.Calls()

	// The claim waits for the table, so that the gateway can be paused meanwhile.
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, `BEGIN; LOCK TABLE mesh_gateway_records IN EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	answered := make(chan answer, 1)
	go func() { answered <- send(paused, "paused") }()
	for waiting := false; !waiting; wait(ctx, 5*time.Millisecond) {
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	paused.signal(t, syscall.SIGSTOP)
	if _, err := conn.Exec(ctx, `COMMIT`); err != nil {
		t.Fatal(err)
	}
	<-time.After(pause)
	if a := send(other, "paused"); a.status != http.StatusConflict || a.detail(t, "ErrorInfo")["reason"] != "IDEMPOTENCY_KEY_IN_USE" {
		t.Errorf("another gateway, meanwhile: %d %s", a.status, a.body)
	}
	paused.signal(t, syscall.SIGCONT)
	a := <-answered
	if metadata, _ := a.detail(t, "ErrorInfo")["metadata"].(map[string]any); a.status != http.StatusServiceUnavailable || metadata["sent"] != "false" {
		t.Errorf("the gateway that was paused: %d %s", a.status, a.body)
	}
	if calls := mesh.Calls(); len(calls) != 0 {
		t.Error("the call was made after its deadline")
	}
	if a := send(other, "paused"); a.status != http.StatusOK || a.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("a repeated request: %d %s", a.status, a.body)
	}
}

// number returns the value of an environment variable.
func number(t *testing.T, variable string, byDefault int) int {
	t.Helper()
	value, err := strconv.Atoi(cmp.Or(os.Getenv(variable), strconv.Itoa(byDefault)))
	if err != nil || value < 1 {
		t.Fatalf("%s must be a number above 0, not %q", variable, os.Getenv(variable))
	}
	return value
}

// faultSuite is a run with one store.
type faultSuite struct {
	name, store string
	writes      int
	seed        uint64

	mesh     *faultyMesh
	replicas []*replica
	programs []*program
	clients  *faultyClients
}

// fault happens while a call of the gateway with the index is in flight. The call goes on after
// proceed.
type fault func(t *testing.T, at int, proceed func())

func (s *faultSuite) run(t *testing.T, replicas int, faults ...fault) {
	count := max(len(faults), s.writes/callsPerFault)
	s.mesh = startFaultyMesh(t, s.seed, max(1, s.writes/(count+3)))
	s.replicas, s.programs = make([]*replica, replicas), make([]*program, replicas)
	for i := range replicas {
		s.replicas[i] = new(replica)
		s.start(t, i)
	}
	s.clients = newFaultyClients(t, s.seed, s.replicas)
	begin := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	finished := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		defer close(finished)
		s.clients.run(ctx, s.writes)
	})
	// The calls that are held end before the upstream and the gateways do.
	silence := sync.OnceFunc(func() { close(s.mesh.quiet) })
	defer func() { silence(); cancel(); running.Wait() }()

	for n := range count {
		select {
		case held := <-s.mesh.held:
			at, err := strconv.Atoi(held.requestID[strings.LastIndexByte(held.requestID, '.')+1:])
			if err != nil {
				t.Fatalf("a call without the id of its request: %q", held.requestID)
			}
			faults[n%len(faults)](t, at, held.proceed)
		case <-finished:
			t.Fatalf("all writes ended after %d of %d faults; the seed is %d", n, count, s.seed)
		}
	}
	silence()
	select {
	case <-finished:
	case <-time.After(faultLimit + time.Duration(s.writes)*20*time.Millisecond):
		cancel()
		<-finished
	}
	for _, p := range s.programs {
		p.signal(t, syscall.SIGTERM)
		if code := p.end(); code != 0 {
			t.Errorf("exit status %d\n%s", code, p.stderr)
		}
	}
	s.check(t, count, time.Since(begin))
}

// start runs a gateway.
func (s *faultSuite) start(t *testing.T, at int) {
	t.Helper()
	p := start(t, "--upstream", s.mesh.target, "--upstream-plaintext", "--store", s.store,
		"--request-timeout", callTimeout.String(), "--rate-limit-write", "0")
	s.programs[at] = p
	s.replicas[at].base.Store(&p.base)
}

// kill kills a gateway, and starts another.
func (s *faultSuite) kill(t *testing.T, at int, proceed func()) {
	s.programs[at].kill(t)
	proceed()
	s.start(t, at)
}

// restart ends a gateway as an operator does, and starts another.
func (s *faultSuite) restart(t *testing.T, at int, proceed func()) {
	s.programs[at].signal(t, syscall.SIGTERM)
	proceed()
	if code := s.programs[at].end(); code != 0 {
		t.Errorf("exit status %d\n%s", code, s.programs[at].stderr)
	}
	s.start(t, at)
}

// pause pauses a gateway until after the deadline of its calls. Their answers arrive meanwhile.
func (s *faultSuite) pause(t *testing.T, at int, proceed func()) {
	s.programs[at].signal(t, syscall.SIGSTOP)
	proceed()
	<-time.After(pause)
	s.programs[at].signal(t, syscall.SIGCONT)
}

// check compares what the clients and the store say with what the upstream did.
func (s *faultSuite) check(t *testing.T, faults int, elapsed time.Duration) {
	s.mesh.mu.Lock()
	defer s.mesh.mu.Unlock()
	s.clients.mu.Lock()
	defer s.clients.mu.Unlock()
	if len(s.clients.pending) > 0 {
		t.Errorf("%d writes have no final answer", len(s.clients.pending))
	}
	var doubled, wrongDone, wrongRefused, wrongNotSent []string
	byRequest := make(map[string]*meshCall)
	carriedOut, refusals := make(map[string]string), make(map[string]bool)
	for key, calls := range s.mesh.calls {
		if len(calls) > 1 {
			doubled = append(doubled, key)
		}
		for _, call := range calls {
			byRequest[call.requestID] = call
			refusals[key] = refusals[key] || call.refused
			if call.name != "" {
				carriedOut[key] = call.name
			}
		}
	}
	answers := make(map[kind]int)
	for _, h := range s.clients.heard {
		answers[h.kind]++
		call := byRequest[h.requestID]
		switch {
		case h.kind == other:
			t.Errorf("%s: %s", h.requestID, h.text)
		case h.kind == first && (call == nil || call.name != h.name), h.kind == replayed && (h.name == "" || carriedOut[h.key] != h.name):
			wrongDone = append(wrongDone, h.requestID)
		case h.kind == refused && (!refusals[h.key] || carriedOut[h.key] != ""):
			wrongRefused = append(wrongRefused, h.requestID)
		case h.notSent && call != nil:
			wrongNotSent = append(wrongNotSent, h.requestID)
		}
	}
	for key, state := range s.list(t) {
		switch {
		case state == "done" && carriedOut[key] == "":
			wrongDone = append(wrongDone, key+" in the store")
		case state == "refused" && (!refusals[key] || carriedOut[key] != ""):
			wrongRefused = append(wrongRefused, key+" in the store")
		}
	}
	for _, k := range []kind{first, replayed, unknown, refused} {
		if answers[k] == 0 {
			t.Errorf("no answer was %q", k)
		}
	}
	for what, wrong := range map[string][]string{"doubled": doubled, "wrong done": wrongDone, "wrong refused": wrongRefused, "wrong nothing was sent": wrongNotSent} {
		if len(wrong) > 0 {
			t.Errorf("%s: %s", what, strings.Join(wrong, ", "))
		}
	}

	var counts []string
	for _, k := range kinds() {
		counts = append(counts, fmt.Sprintf("%d %s", answers[k], k))
	}
	report(t, fmt.Sprintf("store %s: %d writes sent, %d upstream calls, %d faults, %.1f s, seed %d\n"+
		"  answers: %s\n  %d doubled, %d wrong done, %d wrong refused, %d wrong \"nothing was sent\"\n",
		s.name, s.writes, s.mesh.count, faults, elapsed.Seconds(), s.seed, strings.Join(counts, ", "),
		len(doubled), len(wrongDone), len(wrongRefused), len(wrongNotSent)))
}

// list returns the states of the records by key, as an operator sees them.
func (s *faultSuite) list(t *testing.T) map[string]string {
	t.Helper()
	code, stdout, stderr := command(t, "store", "list", "--all", "--store", s.store)
	lines := slices.Collect(strings.Lines(stdout))
	if code != 0 || len(lines) < 2 {
		t.Fatalf("exit status %d\n%s%s", code, stdout, stderr)
	}
	states := make(map[string]string)
	for _, line := range lines[1:] {
		line = strings.Replace(line, "in flight", "in-flight", 1)
		if fields := strings.Fields(line); len(fields) == 7 {
			states[fields[5]] = fields[0]
		} else {
			t.Errorf("a line of the list: %q", line)
		}
	}
	return states
}

// report prints the figures of a suite, and appends them to the file FAULT_REPORT.
func report(t *testing.T, text string) {
	t.Helper()
	t.Log("\n" + text)
	path := os.Getenv("FAULT_REPORT")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString(text)
	if err := cmp.Or(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}
