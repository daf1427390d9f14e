package server

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/internal/policy"
)

// refusalNotice is the least time between two lines of the log about refused connections.
const refusalNotice = time.Minute

// ConnectionLimits bound the open connections of clients. Those beyond are closed at once: if they
// waited instead, a flood of them would make every client wait. A limit of 0 is none.
type ConnectionLimits struct {
	// All is the maximum number of connections.
	All int
	// Address is the maximum number of connections from one address, which is a /64 for IPv6. It does
	// not apply to Trusted.
	Address int
	// Trusted are the proxies, whose connections are those of many clients.
	Trusted []netip.Prefix
}

// Connections counts the open connections of the listeners that it wraps, and refuses those beyond
// its limits. A WebSocket counts until it is closed. It is safe for concurrent use.
type Connections struct {
	logger *slog.Logger

	refusedByAll, refusedByAddress atomic.Uint64

	mu        sync.Mutex
	limits    ConnectionLimits
	all       int
	byAddress map[netip.Addr]int
	noticed   time.Time
}

// NewConnections returns Connections with the limits.
func NewConnections(limits ConnectionLimits, logger *slog.Logger) *Connections {
	c := &Connections{logger: logger, byAddress: make(map[netip.Addr]int)}
	c.SetLimits(limits)
	return c
}

// SetLimits changes the limits. Connections that are open stay open.
func (c *Connections) SetLimits(limits ConnectionLimits) {
	trusted := make([]netip.Prefix, len(limits.Trusted))
	for i, prefix := range limits.Trusted {
		trusted[i] = access.UnmapPrefix(prefix)
	}
	limits.Trusted = trusted
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = limits
}

// Open returns the number of open connections.
func (c *Connections) Open() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(c.all)
}

// RefusedByAll returns how many connections were refused because of the limit of all.
func (c *Connections) RefusedByAll() uint64 { return c.refusedByAll.Load() }

// RefusedByAddress returns how many connections were refused because of the limit of their address.
func (c *Connections) RefusedByAddress() uint64 { return c.refusedByAddress.Load() }

// Limit returns a listener that accepts the connections of l within the limits.
func (c *Connections) Limit(l net.Listener) net.Listener { return &limitedListener{l, c} }

type limitedListener struct {
	net.Listener
	connections *Connections
}

// Accept implements [net.Listener].
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		network, ok := l.connections.enter(accepted.RemoteAddr())
		if !ok {
			_ = accepted.Close() // there is nothing to lose
			continue
		}
		leave := sync.OnceFunc(func() { l.connections.leave(network) })
		if tcp, ok := accepted.(*net.TCPConn); ok {
			return &limitedTCP{tcp, leave}, nil
		}
		return &limitedConn{accepted, leave}, nil
	}
}

// enter counts a connection, or reports false if it is beyond a limit. The network is invalid if the
// connection does not count for its address.
func (c *Connections) enter(remote net.Addr) (network netip.Addr, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tcp, isTCP := remote.(*net.TCPAddr); isTCP && c.limits.Address > 0 {
		address := tcp.AddrPort().Addr().Unmap().WithZone("")
		if !slices.ContainsFunc(c.limits.Trusted, func(p netip.Prefix) bool { return p.Contains(address) }) {
			network = policy.Network(address)
		}
	}
	if c.limits.All > 0 && c.all >= c.limits.All {
		c.refusedByAll.Add(1)
		c.notice("--max-connections", c.limits.All, remote)
		return network, false
	}
	if network.IsValid() {
		if c.byAddress[network] >= c.limits.Address {
			c.refusedByAddress.Add(1)
			c.notice("--max-address-connections", c.limits.Address, remote)
			return network, false
		}
		c.byAddress[network]++
	}
	c.all++
	return network, true
}

func (c *Connections) leave(network netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if network.IsValid() {
		if c.byAddress[network]--; c.byAddress[network] == 0 {
			delete(c.byAddress, network)
		}
	}
}

// notice logs that connections are refused, unless it did so lately.
func (c *Connections) notice(flag string, limit int, remote net.Addr) {
	if now := time.Now(); now.Sub(c.noticed) >= refusalNotice {
		c.noticed = now
		c.logger.Warn("connections are refused; if they come from a proxy, name it with --trusted-proxy", "limit", flag, "maximum", limit, "peer", remote.String())
	}
}

// limitedTCP keeps what net/http finds in a TCP connection besides net.Conn, such as ReadFrom and
// CloseWrite.
type limitedTCP struct {
	*net.TCPConn
	leave func()
}

// Close implements [net.Conn].
func (c *limitedTCP) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}

type limitedConn struct {
	net.Conn
	leave func()
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
