package server_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// BenchmarkStreams opens 2,000 event streams of one transaction through all routes, over a sandbox
// in another process. It reports the memory for each stream, including its client in this process,
// and the p99 latency of unary calls during the streams relative to that without streams. Each
// stream must receive all messages.
//
//	go test ./internal/server -run '^$' -bench Streams -benchtime 3x
func BenchmarkStreams(b *testing.B) {
	const (
		streams  = 2000
		messages = 5 // the states that a transaction passes through
		pace     = time.Second
	)
	var perStream, open, flowing []float64
	for b.Loop() {
		bench := newBench(b)
		bench.calls(1000) // warm up
		before, alone := inUse(), p99(bench.calls(2000))

		var done sync.WaitGroup
		started := make(chan struct{}, streams)
		missed := make(chan int, streams)
		for range streams {
			done.Go(func() {
				if got := bench.watch(started); got != messages {
					missed <- got
				}
			})
		}
		for range streams {
			<-started
		}
		perStream = append(perStream, float64(inUse()-before)/streams/1024)
		open = append(open, p99(bench.calls(2000))/alone)

		ticks := make(chan struct{})
		go func() {
			defer close(ticks)
			for range messages - 1 {
				bench.tick()
				time.Sleep(pace)
			}
		}()
		var latencies []time.Duration
		for running := true; running; {
			latencies = append(latencies, bench.calls(50)...)
			select {
			case <-ticks:
				running = false
			default:
			}
		}
		flowing = append(flowing, p99(latencies)/alone)
		done.Wait()
		close(missed)
		for got := range missed {
			b.Errorf("a stream received %d messages, want %d", got, messages)
		}
		bench.close()
	}
	b.ReportMetric(median(perStream), "KiB/stream")
	b.ReportMetric(median(open), "p99-open/alone")
	b.ReportMetric(median(flowing), "p99-flowing/alone")
}

type bench struct {
	b       *testing.B
	sandbox *exec.Cmd
	conn    *upstream.Pool
	control string // the HTTP address of the sandbox
	server  *httptest.Server
	headers string
	path    string
}

func newBench(b *testing.B) *bench {
	b.Helper()
	program := filepath.Join(b.TempDir(), "mesh-gateway")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/mesh-gateway").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	command := exec.Command(program, "serve", "--sandbox", "--sandbox-clock", "manual",
		"--listen", "127.0.0.1:0", "--admin-listen", "", "--sandbox-grpc-listen", "127.0.0.1:0")
	stdout, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	control, target := addresses(b, stdout)
	conn, err := upstream.Dial(target, upstream.Options{Plaintext: true})
	if err != nil {
		b.Fatal(err)
	}
	unlimited := ratelimit.Rate{}
	store := memstore.New(memstore.DefaultLimits())
	routes, err := server.Routes(server.Options{
		Keeper: idempotency.NewKeeper(store, slog.New(slog.DiscardHandler)), Tickets: middleware.NewSealedTickets(store),
		Conn: conn, Metrics: telemetry.New("test"),
		Live: server.Live{
			ReadRate: unlimited, WriteRate: unlimited, Streams: policy.StreamLimits{PerKey: 5000, All: 5000}, MaxBodyBytes: 1 << 20, RequestTimeout: time.Minute, LogSuccesses: 1,
		},
		Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	caller := sandbox.Seeded()[0]
	opened, err := accountv1.NewAccountServiceClient(conn).OpenAccount(
		metadata.AppendToOutgoingContext(b.Context(), "x-api-key", caller.APIKey, "x-group", caller.Group),
		&accountv1.OpenAccountRequest{Name: "accounts/00000000000000000000000005"})
	if err != nil {
		b.Fatal(err)
	}
	return &bench{
		b: b, sandbox: command, conn: conn, control: control, server: httptest.NewServer(routes),
		headers: "Host: here\r\nX-Api-Key: " + caller.APIKey + "\r\nX-Group: " + caller.Group + "\r\n",
		path:    "/v1/" + opened.GetLedgerTransaction() + "/state:monitor",
	}
}

func (x *bench) close() {
	x.server.Close()
	if err := x.conn.Close(); err != nil {
		x.b.Error(err)
	}
	if err := errors.Join(x.sandbox.Process.Signal(os.Interrupt), x.sandbox.Wait()); err != nil {
		x.b.Error(err)
	}
}

// tick advances the clock of the sandbox by one step.
func (x *bench) tick() {
	response, err := http.Post(x.control+"/sandbox:advance?by=250ms", "", nil)
	if err != nil {
		x.b.Error(err)
		return
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		x.b.Error(response.Status)
	}
}

// dial sends a request on a new connection. It does not use http.Client, which would need most of
// the measured memory.
func (x *bench) dial(path, headers string) (net.Conn, error) {
	conn, err := net.Dial("tcp", x.server.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\n"+x.headers+headers+"\r\n")
	return conn, err
}

// watch reads a stream to its end and returns the number of messages.
func (x *bench) watch(started chan<- struct{}) (messages int) {
	conn, err := x.dial(x.path, "Accept: text/event-stream\r\nConnection: close\r\n")
	if err != nil {
		x.b.Error(err)
		started <- struct{}{}
		return 0
	}
	defer conn.Close()
	buffer, kept := make([]byte, 1024), 0
	for {
		n, err := conn.Read(buffer[kept:])
		kept += n
		for {
			line, rest, whole := bytes.Cut(buffer[:kept], []byte("\n"))
			if !whole {
				break
			}
			if bytes.Equal(line, []byte("event: message")) {
				if messages++; messages == 1 {
					started <- struct{}{}
				}
			}
			kept = copy(buffer, rest)
		}
		if err != nil {
			return messages
		}
	}
}

// calls makes n unary calls in sequence and returns their durations.
func (x *bench) calls(n int) []time.Duration {
	conn, err := net.Dial("tcp", x.server.Listener.Addr().String())
	if err != nil {
		x.b.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	took := make([]time.Duration, n)
	for i := range took {
		start := time.Now()
		if _, err := io.WriteString(conn, "GET /v1/limit_orders/00000000000000000000000002 HTTP/1.1\r\n"+x.headers+"\r\n"); err != nil {
			x.b.Fatal(err)
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil || response.StatusCode != http.StatusOK {
			x.b.Fatal(fmt.Sprint(response, err))
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			x.b.Fatal(err)
		}
		took[i] = time.Since(start)
	}
	return took
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func p99(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)*99/100])
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// addresses parses the addresses of a sandbox from its output.
func addresses(b *testing.B, stdout io.Reader) (control, target string) {
	b.Helper()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case strings.HasPrefix(lines.Text(), "Mesh API"):
			control = strings.TrimSuffix(words[2], "/v1")
		case strings.HasPrefix(lines.Text(), "gRPC"):
			return control, strings.TrimSuffix(words[1], ",")
		}
	}
	b.Fatalf("the sandbox ended without an address: %v", lines.Err())
	return "", ""
}
