package e2e

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is a TCP proxy in front of an upstream, and the network between the upstream and a gateway. It
// loses, resets, silences and slows connections.
type proxy struct {
	address string

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	target   string
	silent   bool // whether new connections are silent
	links    map[*link]struct{}
	running  sync.WaitGroup

	// bytesPerSecond is the speed of each connection in each direction, or 0 for no limit.
	bytesPerSecond atomic.Int64
}

// link is one connection through the proxy. While it is silent, what arrives is dropped.
type link struct {
	client, server *net.TCPConn
	silent         atomic.Bool
}

// startProxy starts a proxy that is stopped at the end of the test.
func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{address: "127.0.0.1:0", target: target, links: make(map[*link]struct{})}
	p.listen(t)
	t.Cleanup(func() { p.kill(); p.running.Wait() })
	return p
}

// listen accepts connections, on the same address as before.
func (p *proxy) listen(t *testing.T) {
	t.Helper()
	var listener net.Listener
	var err error
	for range 100 { // another program may have got the port for a moment
		if listener, err = net.Listen("tcp", p.address); err == nil {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address, p.listener = listener.Addr().String(), listener
	p.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.connect(conn.(*net.TCPConn)) })
		}
	})
}

// connect passes on what a connection sends and receives until it ends.
func (p *proxy) connect(client *net.TCPConn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server.(*net.TCPConn)}
	p.mu.Lock()
	if p.listener == nil { // it was killed meanwhile
		p.mu.Unlock()
		l.reset()
		return
	}
	l.silent.Store(p.silent)
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, l.client, l.server) })
	pumps.Go(func() { p.pump(l, l.server, l.client) })
	pumps.Wait()
	_, _ = l.client.Close(), l.server.Close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pump passes on one direction.
func (p *proxy) pump(l *link, from, to *net.TCPConn) {
	buffer := make([]byte, 4<<10)
	for {
		n, err := from.Read(buffer)
		if rate := p.bytesPerSecond.Load(); rate > 0 {
			<-time.After(time.Duration(n) * time.Second / time.Duration(rate))
		}
		if n > 0 && !l.silent.Load() {
			if _, err := to.Write(buffer[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if !l.silent.Load() || from == l.client {
				_ = to.Close()
			}
			return
		}
	}
}

// kill refuses connections and resets those that are open, as if the upstream had been killed.
func (p *proxy) kill() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
	}
	p.listener = nil
	p.mu.Unlock()
	p.reset()
}

// reset resets all connections.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

func (l *link) reset() {
	for _, conn := range []*net.TCPConn{l.client, l.server} {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
}

// silence makes all connections silent for good. New ones are silent as long as dropped is true.
func (p *proxy) silence(dropped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = dropped
	for l := range p.links {
		l.silent.Store(true)
	}
}

// setTarget makes new connections go to another upstream.
func (p *proxy) setTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target, p.silent = target, false
}
