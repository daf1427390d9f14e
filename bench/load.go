package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// measurementTimeout bounds one measurement.
const measurementTimeout = 2 * time.Minute

// load sends requests to a peer over HTTP/1.1 connections that are kept alive, one
// request at a time on each. A peer that closes a connection after an answer, as mesh-gateway does
// after a stream, gets another one for the next request. Each connection writes the same bytes, but for an
// Idempotency-Key, and discards the answers: the client shares the machine with the peer, so it should take little.
type load struct {
	row     *row
	size    int // what the body of an answer must come to, in bytes
	clients []*client
	unwatch func() bool
}

type client struct {
	ctx     context.Context //nolint:containedctx // of the measurement, for other connections
	address string
	reader  *bufio.Reader
	request []byte
	// mayClose reports whether the peer may close the connection after an answer, and closed
	// whether it does.
	mayClose, closed bool

	mu   sync.Mutex // of conn, which the end of ctx closes
	conn net.Conn
	// key is where the Idempotency-Key is in the request, nil if it has none.
	key []byte
}

// prepare sets the request that the client sends. If keyed is true, renew gives it another
// key.
func (c *client) prepare(r *row, address string, keyed bool) {
	c.mayClose = r.stream
	key := ""
	if keyed {
		key = rand.Text()
	}
	c.request = r.http(address, key)
	if keyed {
		at := bytes.Index(c.request, []byte(key))
		c.key = c.request[at : at+len(key)]
	}
}

// renew replaces the key by one that was not sent before.
func (c *client) renew() {
	if c.key != nil {
		copy(c.key, rand.Text())
	}
}

// answer is one answer, its body left out.
type answer struct {
	status int
	size   int
	// first is the time until the first bytes of the body were there, and total until
	// the last.
	first, total time.Duration
}

// newLoad opens the connections and sends the requests that warm up the peer. If keyed is
// true, each request has a new Idempotency-Key.
func newLoad(ctx context.Context, address string, r *row, keyed bool, warm, size int) (_ *load, err error) {
	l := &load{row: r, size: size}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for range r.clients {
		c, err := connect(ctx, address)
		if err != nil {
			return nil, err
		}
		c.prepare(r, address, keyed)
		l.clients = append(l.clients, c)
	}
	l.unwatch = context.AfterFunc(ctx, l.disconnect)
	_, err = l.run(warm)
	return l, err
}

func connect(ctx context.Context, address string) (*client, error) {
	c := &client{ctx: ctx, address: address, reader: bufio.NewReaderSize(nil, 64<<10)}
	return c, c.connect()
}

// connect opens the connection, or another one in its place.
func (c *client) connect() error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(c.ctx, "tcp", c.address)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn = conn
	if err := errors.Join(c.ctx.Err(), conn.SetDeadline(time.Now().Add(measurementTimeout))); err != nil {
		return errors.Join(err, conn.Close())
	}
	c.reader.Reset(conn)
	c.closed = false
	return nil
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

func (l *load) close() {
	if l.unwatch != nil {
		l.unwatch()
	}
	l.disconnect()
}

func (l *load) disconnect() {
	for _, c := range l.clients {
		c.close()
	}
}

// loadResult is what the client saw. The times are sorted.
type loadResult struct {
	elapsed          time.Duration
	latencies, first []time.Duration
}

// run sends a number of requests over all connections. Any answer that is not as
// expected is an error, after which nothing more is sent.
func (l *load) run(requests int) (loadResult, error) {
	var left atomic.Int64
	left.Store(int64(requests))
	perClient := make([][]answer, len(l.clients))
	failures := make([]error, len(l.clients))
	var running sync.WaitGroup
	begin := time.Now()
	for i, c := range l.clients {
		running.Go(func() {
			for left.Add(-1) >= 0 {
				c.renew()
				a, err := c.exchange(io.Discard)
				if err == nil && (a.status != http.StatusOK || a.size != l.size) {
					err = fmt.Errorf("an answer of status %d and %d bytes, want 200 and %d", a.status, a.size, l.size)
				}
				if err != nil {
					failures[i] = err
					left.Store(0)
					return
				}
				perClient[i] = append(perClient[i], a)
			}
		})
	}
	running.Wait()
	result := loadResult{elapsed: time.Since(begin)}
	if i := slices.IndexFunc(failures, func(err error) bool { return err != nil }); i >= 0 {
		return loadResult{}, failures[i]
	}
	for _, answers := range perClient {
		for _, a := range answers {
			result.latencies = append(result.latencies, a.total)
			result.first = append(result.first, a.first)
		}
	}
	slices.Sort(result.latencies)
	slices.Sort(result.first)
	return result, nil
}

// exchange sends the request and copies the body of its answer to body.
func (c *client) exchange(body io.Writer) (answer, error) {
	begin := time.Now()
	if c.closed {
		if err := c.connect(); err != nil {
			return answer{}, err
		}
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return answer{}, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	a := answer{status: response.StatusCode}
	counted := &firstRead{reader: response.Body}
	size, err := io.Copy(body, counted)
	if err != nil {
		return answer{}, err
	}
	if response.Close && !c.mayClose {
		return answer{}, errors.New("the peer closes the connection after an answer")
	}
	c.closed = response.Close
	a.size, a.total, a.first = int(size), time.Since(begin), counted.at.Sub(begin)
	return a, nil
}

// firstRead notes when its first bytes were read.
type firstRead struct {
	reader io.Reader
	at     time.Time
}

func (f *firstRead) Read(p []byte) (int, error) {
	n, err := f.reader.Read(p)
	if n > 0 && f.at.IsZero() {
		f.at = time.Now()
	}
	return n, err
}

// fetch sends the request of a row once, and returns the status and body of the answer.
func fetch(ctx context.Context, address string, r *row, keyed bool) (status int, body []byte, err error) {
	c, err := connect(ctx, address)
	if err != nil {
		return 0, nil, err
	}
	defer c.close()
	var b bytes.Buffer
	c.prepare(r, address, keyed)
	a, err := c.exchange(&b)
	return a.status, b.Bytes(), err
}
