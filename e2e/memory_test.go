package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

const (
	// inFlight is the default of --max-inflight-bytes.
	inFlight = 256 << 20
	// programMemory is what the program may take besides, in bytes. Its heap may take 64 MiB more
	// than the budget, and its code takes 30. The rest is a margin for that limit, which is soft:
	// 327 to 338 MiB were measured in all.
	programMemory = 128 << 20
	listPath      = "/v1/accounts"
)

// resident returns a value of /proc/PID/status in bytes: VmRSS is what the program has in memory,
// and VmHWM the most that it ever had.
func (p *program) resident(t *testing.T, name string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); fields[0] == name+":" {
			kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatalf("no %s in %s", name, status)
	return 0
}

// wantWithin checks the most memory that the program ever had.
func (p *program) wantWithin(t *testing.T, limit int64) {
	t.Helper()
	peak := p.resident(t, "VmHWM")
	t.Logf("memory: %d MiB now, %d MiB at the peak, %d MiB allowed", p.resident(t, "VmRSS")>>20, peak>>20, limit>>20)
	if peak > limit && !raceDetector { // which multiplies it
		t.Errorf("the peak of %d MiB is more than %d MiB", peak>>20, limit>>20)
	}
}

// listUpstream starts an upstream whose accounts are a list of 10,000. Other methods respond with an
// empty message.
func listUpstream(t *testing.T) (upstream *meshtest.Upstream, size int) {
	t.Helper()
	amount := func(value string) *typev1.Amount {
		return &typev1.Amount{Token: &typev1.Token{Code: "USDC", Issuer: "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN", Ledger: typev1.Ledger_LEDGER_STELLAR}, Value: &typev1.Decimal{Value: value}}
	}
	noise := rand.NewChaCha8([32]byte{}) // it does not compress
	list := new(accountv1.ListAccountsResponse)
	for i := range 10_000 {
		var id [75]byte
		_, _ = noise.Read(id[:])
		list.Accounts = append(list.Accounts, &accountv1.Account{
			Name: fmt.Sprintf("accounts/%026d", i), Owner: group, Owners: []string{group}, Number: strconv.Itoa(1_000_000 + i),
			Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: base64.StdEncoding.EncodeToString(id[:]), LiveDataRetrievedAt: timestamppb.Now(),
			State:    accountv1.AccountState_ACCOUNT_STATE_OPEN,
			Balances: []*accountv1.Balance{{Amount: amount("1.5"), AvailableAmount: amount("1.5")}, {Amount: amount("2.5"), AvailableAmount: amount("2.5")}},
		})
	}
	form, err := proto.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	reply := new(accountv1.ListAccountsResponse)
	reply.ProtoReflect().SetUnknown(form) // which is marshalled faster
	upstream = meshtest.NewUpstream(t)
	upstream.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
		if method.Name() == "ListAccounts" {
			return []proto.Message{reply}, nil
		}
		return []proto.Message{dynamicpb.NewMessage(method.Output())}, nil
	})
	return upstream, len(form)
}

// caller returns the headers of one of many API keys.
func caller(number int) http.Header {
	return http.Header{"X-Api-Key": {fmt.Sprintf("%043d", number)}, "X-Group": {group}}
}

// TestMemoryOfOverload has 512 clients read lists of 10,000 accounts as fast as they can. The gateway
// must refuse what does not fit into its memory, and answer the rest in full.
func TestMemoryOfOverload(t *testing.T) {
	const keys = 16
	clients, enough := 512, 200 // answers
	pause := 100 * time.Millisecond
	if raceDetector {
		// It makes the program several times slower. With as many clients, it would not even read
		// their requests in time.
		clients, enough, pause = 128, 20, time.Second
	}
	upstream, size := listUpstream(t)
	// It ends with enough answers, however long they take on this machine. No call times out first.
	const longest = 90 * time.Second
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--rate-limit-read", "0", "--request-timeout", (2 * longest).String())
	ctx, stop := context.WithTimeout(t.Context(), longest)
	defer stop()
	transport := &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	var mu sync.Mutex
	outcomes := make(map[string]int)
	lengths := make(map[int64]int)
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			for ctx.Err() == nil {
				outcome, length := readList(ctx, transport, p.base+listPath, caller(i%keys))
				mu.Lock()
				outcomes[outcome]++
				if outcome == "answered" {
					if lengths[length]++; outcomes[outcome] >= enough {
						stop()
					}
				}
				mu.Unlock()
				if outcome == "refused" {
					// A client of this test does not wait for Retry-After, but it does not spin.
					select {
					case <-ctx.Done():
					case <-time.After(pause):
					}
				}
			}
		})
	}
	running.Wait()
	calls := len(upstream.Calls())
	t.Logf("%d clients, a list of %d KiB: %v; %d calls reached the upstream", clients, size>>10, outcomes, calls)
	delete(outcomes, "ended") // with the test
	if outcomes["answered"] == 0 || outcomes["refused"] == 0 || len(outcomes) != 2 {
		t.Errorf("outcomes %v, want answers and refusals only", outcomes)
	}
	if len(lengths) != 1 {
		t.Errorf("the lengths of the answers are %v, want one", lengths)
	}
	p.wantWithin(t, inFlight+programMemory)

	if got := p.call(t, "POST", "/v1/groups", caller(clients), newGroup); got.status != http.StatusOK {
		t.Errorf("a write after the overload: %d %s", got.status, got.body)
	}
}

// readList requests a list and reads it to its end.
func readList(ctx context.Context, transport http.RoundTripper, url string, header http.Header) (outcome string, length int64) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error(), 0
	}
	request.Header = header
	response, err := transport.RoundTrip(request)
	if err != nil {
		return endedOr(ctx, err), 0
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return endedOr(ctx, err), 0
		}
		if response.StatusCode == http.StatusServiceUnavailable && bytes.Contains(body, []byte(`"OVERLOADED"`)) && response.Header.Get("Retry-After") != "" {
			return "refused", 0
		}
		return fmt.Sprintf("%d %s", response.StatusCode, body[:min(len(body), 100)]), 0
	}
	length, err = io.Copy(io.Discard, response.Body)
	if err != nil {
		return endedOr(ctx, err), 0
	}
	return "answered", length
}

func endedOr(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return "ended"
	}
	return err.Error()
}

// TestMemoryOfSlowReaders opens 200 connections whose clients read the first line of the response
// and then nothing.
func TestMemoryOfSlowReaders(t *testing.T) {
	const readers = 200
	for _, test := range []struct {
		name, path string
		header     func(reader int) http.Header
		// allowed is the memory that the program may take, in bytes.
		allowed int64
		check   func(t *testing.T, p *program, statuses map[string]int)
	}{
		{"a list, each with its own key", listPath, caller, inFlight + programMemory, func(t *testing.T, p *program, statuses map[string]int) {
			if statuses["200"] < 10 || statuses["200"]+statuses["503"] != readers {
				t.Errorf("statuses %v, want 200 and 503 only", statuses)
			}
			// They hold what reads may hold. A tenth is kept for writes.
			if got := p.call(t, "POST", "/v1/groups", caller(readers), newGroup); got.status != http.StatusOK {
				t.Errorf("a write of another key: %d %s", got.status, got.body)
			}
		}},
		{"a list, all with one key", listPath, func(int) http.Header { return caller(0) }, inFlight/4 + programMemory, func(t *testing.T, p *program, statuses map[string]int) {
			if statuses["200"] == 0 || statuses["200"]+statuses["503"] != readers {
				t.Errorf("statuses %v, want 200 and 503 only", statuses)
			}
			if got := p.call(t, "GET", listPath, caller(1), ""); got.status != http.StatusOK {
				t.Errorf("the list for another key: %d %s", got.status, got.body)
			}
			if got := p.call(t, "POST", "/v1/groups", caller(0), newGroup); got.status != http.StatusOK {
				t.Errorf("a write of the same key: %d %s", got.status, got.body)
			}
		}},
		{"a compressed list, each with its own key", listPath, func(reader int) http.Header {
			header := caller(reader)
			header.Set("Accept-Encoding", "zstd")
			return header
		}, inFlight + programMemory, func(t *testing.T, _ *program, statuses map[string]int) {
			if statuses["200"] < 10 || statuses["200"]+statuses["503"] != readers {
				t.Errorf("statuses %v, want 200 and 503 only", statuses)
			}
		}},
		{"the script of the documentation, without a key", "/docs/swagger-ui-bundle.js", func(int) http.Header { return nil }, 80 << 20, func(t *testing.T, _ *program, statuses map[string]int) {
			if statuses["200"] != readers {
				t.Errorf("statuses %v, want 200 only", statuses)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream, size := listUpstream(t)
			p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--rate-limit-read", "0")
			rest := p.resident(t, "VmRSS")
			statuses := make(map[string]int)
			answered := make(chan string, readers)
			for i := range readers {
				go func() { answered <- p.firstLine(t, test.path, test.header(i)) }()
			}
			for range readers {
				statuses[receive(t, answered, "the first line of a response")]++
			}
			t.Logf("statuses %v; a list has %d KiB; %d MiB at rest, %d calls", statuses, size>>10, rest>>20, len(upstream.Calls()))
			p.wantWithin(t, test.allowed)
			test.check(t, p, statuses)
			p.wantWithin(t, test.allowed)
		})
	}
}

// firstLine opens a connection until the end of the test, requests a path, and reads the first line
// of the response. It returns the status.
func (p *program) firstLine(t *testing.T, path string, header http.Header) string {
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.base, "http://"))
	if err != nil {
		return err.Error()
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		return err.Error()
	}
	var request strings.Builder
	fmt.Fprintf(&request, "GET %s HTTP/1.1\r\nHost: gateway\r\n", path)
	if err := header.Write(&request); err != nil {
		return err.Error()
	}
	if _, err := io.WriteString(conn, request.String()+"\r\n"); err != nil {
		return err.Error()
	}
	line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.Fields(line)[1]
}
