package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials"
)

// meter observes what arrives on a connection, above TLS. grpc-go reports only whole messages, which
// take long on a slow network, and not the limit of calls at a time. A dialer could observe it too,
// but with one of its own grpc-go uses no proxy (HTTPS_PROXY).
type meter struct {
	credentials.TransportCredentials
	conn *conn
}

// ClientHandshake implements [credentials.TransportCredentials].
func (m *meter) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := m.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return &meteredConn{Conn: conn, conn: m.conn}, info, nil
}

// Clone implements [credentials.TransportCredentials].
func (m *meter) Clone() credentials.TransportCredentials {
	return &meter{m.TransportCredentials.Clone(), m.conn}
}

// meteredConn is read by one goroutine at a time.
type meteredConn struct {
	net.Conn
	conn *conn
	// first is the beginning of what has arrived, until the first frame is complete.
	first    []byte
	settings bool // whether the first frame has been read
}

// Read implements [net.Conn].
func (c *meteredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.conn.received.Add(1)
		if !c.settings {
			c.readSettings(b[:n])
		}
	}
	return n, err
}

// readSettings reads the first frame of the upstream, which must be its settings (RFC 9113, section
// 3.4). A connection is not ready before it has arrived.
func (c *meteredConn) readSettings(b []byte) {
	c.first = append(c.first, b...)
	frame, err := http2.NewFramer(io.Discard, bytes.NewReader(c.first)).ReadFrame()
	if (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)) && len(c.first) < http2FrameSize {
		return // it is incomplete
	}
	limit := uint32(0)
	if settings, ok := frame.(*http2.SettingsFrame); ok {
		limit, _ = settings.Value(http2.SettingMaxConcurrentStreams)
	}
	c.conn.limit.Store(int64(limit))
	c.settings, c.first = true, nil
}

// http2FrameSize is the largest size of a frame that needs no agreement, in bytes (RFC 9113, section
// 4.2).
const http2FrameSize = 16 << 10
