package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// rawHTTP2 is an HTTP/2 connection that sends any frames, also those that break the protocol.
type rawHTTP2 struct {
	net.Conn
	*http2.Framer

	block   bytes.Buffer
	encoder *hpack.Encoder
	stream  uint32 // the last that was opened
}

// dialHTTP2 connects to a program with --h2c and sends the settings.
func (p *program) dialHTTP2(settings ...http2.Setting) (*rawHTTP2, error) {
	conn, err := net.Dial("tcp", p.address())
	if err != nil {
		return nil, err
	}
	c := &rawHTTP2{Conn: conn, Framer: http2.NewFramer(conn, conn)}
	c.encoder = hpack.NewEncoder(&c.block)
	_, err = io.WriteString(conn, http2.ClientPreface)
	// No write may wait for a gateway that does not read any more.
	return c, errors.Join(err, conn.SetDeadline(time.Now().Add(30*time.Second)), c.WriteSettings(settings...))
}

// headers returns a header block.
func (c *rawHTTP2) headers(method, path string, header http.Header) []byte {
	c.block.Reset()
	write := func(name, value string) {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: name, Value: value}) // to a buffer
	}
	write(":method", method)
	write(":scheme", "http")
	write(":path", path)
	write(":authority", "gateway")
	for name, values := range header {
		write(strings.ToLower(name), values[0])
	}
	return c.block.Bytes()
}

// open opens the next stream.
func (c *rawHTTP2) open(method, path string, header http.Header, end bool) error {
	c.stream += 2
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream - 1, BlockFragment: c.headers(method, path, header), EndHeaders: true, EndStream: end})
}

// discard reads in the background, until the connection ends or a PING is answered.
func (c *rawHTTP2) discard() (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			frame, err := c.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.GoAwayFrame:
				_ = c.Close()
				return
			case *http2.PingFrame:
				if frame.IsAck() {
					return
				}
			}
		}
	}()
	return done
}

// settle returns when the gateway has seen all that was sent, or the connection has ended.
func (c *rawHTTP2) settle(ended <-chan struct{}) error {
	if c.WritePing(false, [8]byte{}) != nil {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-time.After(20 * time.Second):
		return errors.New("the gateway neither answers a PING nor ends the connection")
	}
}

// answers reads until all the streams have ended.
func (c *rawHTTP2) answers(streams map[uint32]bool) error {
	for len(streams) > 0 {
		frame, err := c.ReadFrame()
		if err != nil {
			return fmt.Errorf("%d streams have no answer: %w", len(streams), err)
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			return fmt.Errorf("%d streams have no answer: %v", len(streams), frame)
		case *http2.HeadersFrame:
			if frame.StreamEnded() {
				delete(streams, frame.StreamID)
			}
		case *http2.DataFrame:
			if frame.StreamEnded() {
				delete(streams, frame.StreamID)
			}
		case *http2.RSTStreamFrame:
			if streams[frame.StreamID] {
				return fmt.Errorf("stream %d has no answer: %v", frame.StreamID, frame)
			}
		}
	}
	return nil
}

// writeHeader returns the headers of a write.
func writeHeader() http.Header {
	header := caller(0)
	header.Set("Content-Type", "application/json")
	return header
}

// TestHostileHTTP2 has clients that attack the gateway by what HTTP/2 allows. Its memory must stay
// bounded, and other clients must be answered.
func TestHostileHTTP2(t *testing.T) {
	const (
		connections = 8
		// allowed is the memory that the program may take, in bytes. It takes 40 MiB at rest, and its
		// garbage collector lets the heap grow by 64 MiB. The peaks that were measured are 80 to 200.
		allowed = 256 << 20
	)
	upstream := meshtest.NewUpstream(t)
	for _, test := range []struct {
		name string
		// attack uses a connection until it ends, or the attack is complete. An error of the
		// connection is no error of the attack.
		attack func(c *rawHTTP2, number int) error
		// check sees the calls that reached the upstream.
		check func(t *testing.T, calls []meshtest.Call)
	}{
		{"writes that are reset before they end", func(c *rawHTTP2, _ int) error {
			ended := c.discard()
			for range 5000 {
				if c.open("POST", "/v1/groups", writeHeader(), false) != nil ||
					c.WriteData(c.stream-1, false, []byte(newGroup)) != nil ||
					c.WriteRSTStream(c.stream-1, http2.ErrCodeCancel) != nil {
					return nil
				}
			}
			return c.settle(ended)
		}, func(t *testing.T, calls []meshtest.Call) {
			if len(calls) > 0 {
				t.Errorf("%d calls reached the upstream", len(calls))
			}
		}},
		{"writes of which every other one is reset after its end", func(c *rawHTTP2, number int) error {
			for burst := range 10 {
				answers := make(map[uint32]bool)
				for i := range 40 {
					body := fmt.Sprintf(`{"owner": %q, "displayName": "%d of %d of %d"}`, group, i, burst, number)
					if err := errors.Join(c.open("POST", "/v1/groups", writeHeader(), false), c.WriteData(c.stream-1, true, []byte(body))); err != nil {
						return err
					}
					if i%2 == 0 {
						answers[c.stream-1] = true
					} else if err := c.WriteRSTStream(c.stream-1, http2.ErrCodeCancel); err != nil {
						return err
					}
				}
				if err := c.answers(answers); err != nil {
					return err
				}
			}
			return nil
		}, func(t *testing.T, calls []meshtest.Call) {
			if len(calls) < connections*10*20 {
				t.Errorf("%d calls reached the upstream, fewer than were answered", len(calls))
			}
			seen := make(map[string]bool)
			for _, call := range calls {
				form, err := proto.MarshalOptions{Deterministic: true}.Marshal(call.Request)
				if err != nil {
					t.Fatal(err)
				}
				if seen[string(form)] {
					t.Errorf("sent twice: %v", call.Request)
				}
				seen[string(form)] = true
			}
		}},
		{"a body that is shorter than its length", func(c *rawHTTP2, _ int) error {
			header := writeHeader()
			header.Set("Content-Length", "4096")
			ended := c.discard()
			for range 100 {
				if c.open("POST", "/v1/groups", header, false) != nil || c.WriteData(c.stream-1, true, []byte(newGroup)) != nil {
					return nil
				}
			}
			return c.settle(ended)
		}, func(t *testing.T, calls []meshtest.Call) {
			if len(calls) > 0 {
				t.Errorf("%d calls reached the upstream", len(calls))
			}
		}},
		{"endless headers", func(c *rawHTTP2, _ int) error {
			ended := c.discard()
			if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headers("GET", "/v1/groups", caller(0))}); err != nil {
				return err
			}
			for range 4096 {
				c.block.Reset()
				for i := range 300 {
					_ = c.encoder.WriteField(hpack.HeaderField{Name: fmt.Sprintf("x-%d", i), Value: "0123456789", Sensitive: true})
				}
				if c.WriteContinuation(1, false, c.block.Bytes()) != nil {
					return nil
				}
			}
			select {
			case <-ended:
				return nil
			case <-time.After(10 * time.Second):
				return errors.New("the gateway has taken 20 MB of headers")
			}
		}, nil},
		{"headers that are small on the wire and large in memory", func(c *rawHTTP2, _ int) error {
			// One field of 3.9 KiB in the table, and 12,000 references to it: 46 MiB.
			c.headers("GET", "/v1/groups", caller(0))
			_ = c.encoder.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("a", 3900)})
			block := bytes.Clone(c.block.Bytes())
			block = append(block, bytes.Repeat([]byte{0x80 | 62}, 12000)...) // the newest entry of the table
			for stream := uint32(1); stream < 100; stream += 2 {
				err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: true})
				if err != nil {
					return nil
				}
				status, err := c.status()
				if err != nil {
					return nil // the connection may be closed in place of an answer
				}
				if status != "431" {
					return fmt.Errorf("the status is %s, want 431", status)
				}
				// The next block adds the field again, as the oldest one is evicted.
			}
			return nil
		}, nil},
		{"headers of 20 KiB", func(c *rawHTTP2, _ int) error {
			header := caller(0)
			for i := range 5 {
				header.Set(fmt.Sprintf("X-%d", i), strings.Repeat("~", 4<<10))
			}
			c.headers("GET", "/v1/groups", header)
			block := c.block.Bytes()
			if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:16<<10], EndStream: true}); err != nil {
				return err
			}
			if err := c.WriteContinuation(1, true, block[16<<10:]); err != nil {
				return err
			}
			if status, err := c.status(); err != nil || status != "431" {
				return fmt.Errorf("the status is %q, %v, want 431", status, err) //nolint:errorlint // err may be nil
			}
			return nil
		}, nil},
		{"PINGs whose answers are not read", func(c *rawHTTP2, _ int) error {
			return c.flood(func() error { return c.WritePing(false, [8]byte{}) })
		}, nil},
		{"SETTINGS whose answers are not read", func(c *rawHTTP2, _ int) error {
			return c.flood(func() error {
				return c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
			})
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--h2c", "--rate-limit-read", "0", "--rate-limit-write", "0")
			upstream.Calls()
			var attacking sync.WaitGroup
			var answered atomic.Int64
			for number := range connections {
				attacking.Go(func() {
					c, err := p.dialHTTP2()
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					if err := test.attack(c, number); err != nil {
						t.Error(err)
					}
				})
			}
			attacked := make(chan struct{})
			go func() { attacking.Wait(); close(attacked) }()
			for running := true; running; {
				select {
				case <-attacked:
					running = false
				default:
				}
				if got := p.call(t, "GET", "/version", nil, ""); got.status != http.StatusOK {
					t.Fatalf("another client: %d %s", got.status, got.body)
				}
				answered.Add(1)
			}
			p.wantWithin(t, allowed)
			calls := upstream.Calls()
			if test.check != nil {
				test.check(t, calls)
			}
			t.Logf("%d answers to another client meanwhile, %d calls reached the upstream", answered.Load(), len(calls))
			if got := p.call(t, "POST", "/v1/groups", caller(1), newGroup); got.status != http.StatusOK {
				t.Errorf("a write afterwards: %d %s", got.status, got.body)
			}
		})
	}
}

// status reads until the next response and returns its status.
func (c *rawHTTP2) status() (string, error) {
	if c.ReadMetaHeaders == nil {
		c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	}
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			return "", err
		}
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
			return headers.PseudoValue("status"), nil
		}
	}
}

// flood sends a frame again and again without reading, until the gateway reads no more.
func (c *rawHTTP2) flood(send func() error) error {
	if err := c.SetWriteDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	for send() == nil {
	}
	return nil
}

// TestMemoryOfSlowHTTP2Readers has clients that request lists of 10,000 accounts over HTTP/2 and never
// allow the gateway to send them.
func TestMemoryOfSlowHTTP2Readers(t *testing.T) {
	const connections, streams = 5, 40
	upstream, _ := listUpstream(t)
	p := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--h2c", "--rate-limit-read", "0")
	statuses := make(map[string]int)
	answered := make(chan string, connections*streams)
	for i := range connections {
		c, err := p.dialHTTP2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for j := range streams {
			if err := c.open("GET", listPath, caller(i*streams+j), true); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			for range streams {
				status, err := c.status()
				if err != nil {
					status = err.Error()
				}
				answered <- status
			}
		}()
	}
	for range connections * streams {
		statuses[receive(t, answered, "the header of a response")]++
	}
	t.Logf("statuses %v", statuses)
	if statuses["200"] < 10 || statuses["200"]+statuses["503"] != connections*streams {
		t.Errorf("statuses %v, want 200 and 503 only", statuses)
	}
	if got := p.call(t, "POST", "/v1/groups", caller(connections*streams), newGroup); got.status != http.StatusOK {
		t.Errorf("a write of another key: %d %s", got.status, got.body)
	}
	p.wantWithin(t, inFlight+programMemory)
}
