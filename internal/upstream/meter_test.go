package upstream

import (
	"bytes"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// chunks is a connection from which a few bytes at a time are read.
type chunks struct {
	net.Conn
	rest []byte
	size int
}

func (c *chunks) Read(b []byte) (int, error) {
	n := copy(b, c.rest[:min(c.size, len(c.rest))])
	c.rest = c.rest[n:]
	return n, nil
}

func TestMeter(t *testing.T) {
	var settings, none, other bytes.Buffer
	_ = http2.NewFramer(&settings, nil).WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 15}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
	_ = http2.NewFramer(&none, nil).WriteSettings()
	_ = http2.NewFramer(&other, nil).WritePing(false, [8]byte{})
	for _, test := range []struct {
		name  string
		bytes []byte
		size  int
		limit int64
	}{
		{"settings at once", settings.Bytes(), 100, 100},
		{"settings byte by byte", settings.Bytes(), 1, 100},
		{"settings and more", append(settings.Bytes(), other.Bytes()...), 100, 100},
		{"settings without a limit", none.Bytes(), 100, 0},
		{"no settings", other.Bytes(), 100, 0},
		{"not HTTP/2", bytes.Repeat([]byte("HTTP/1.1 "), 10_000), 1000, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := new(conn)
			c.limit.Store(7) // of the connection before
			metered := &meteredConn{Conn: &chunks{rest: test.bytes, size: test.size}, conn: c}
			reads := uint64(0)
			for buffer := make([]byte, 1000); ; reads++ {
				if n, _ := metered.Read(buffer); n == 0 {
					break
				}
			}
			if got := c.received.Load(); got != reads {
				t.Errorf("received is %d after %d reads", got, reads)
			}
			if got := c.limit.Load(); got != test.limit || metered.first != nil {
				t.Errorf("the limit is %d, want %d; %d bytes are kept", got, test.limit, len(metered.first))
			}
		})
	}
}
