package server

import (
	"crypto/tls"
	"net/http"
	"time"
)

// The limits of an HTTP/2 connection. net/http enforces others by itself. It closes a connection
// whose header block exceeds its limit by far, whose client resets more than 4 × maxStreams streams
// before their handlers begin, or does not read 10,000 replies to SETTINGS, PING and RST_STREAM.
const (
	// maxStreams is the maximum number of concurrent streams. It is more than the open streams that a
	// key may have by default (--max-key-streams), so that one connection is enough for a client. A
	// client that opens streams and resets them at once makes the gateway hold up to five times as
	// many, so it is not more than it must be.
	maxStreams = 128
	// maxFrameBytes is the maximum size of a frame, the minimum that RFC 9113, section 4.2, allows.
	// Each connection has a buffer for the largest frame that it received.
	maxFrameBytes = 16 << 10
	// receiveWindow is how much of its request bodies a client may send before handlers have read
	// it, in one stream and in all streams of a connection. It is memory that the budget of calls in
	// flight does not count. A body of the default --max-body-bytes takes four round trips.
	receiveWindow = 256 << 10
	// maxHeaderTable is the maximum size of the tables of HPACK, the initial size of RFC 7541.
	maxHeaderTable = 4 << 10
	// pingAfter is how long a client may be silent before it is asked whether it is still there,
	// and pingTimeout how long it may take to answer. Connections without streams end after
	// idleTimeout in any case.
	pingAfter   = time.Minute
	pingTimeout = 15 * time.Second
)

// Transport is how clients speak to the listeners of [Server.Listen], beneath HTTP. The zero
// Transport is HTTP/1.1 without TLS. The admin listener and [Server.ListenService] do not use it.
type Transport struct {
	// TLS, if not nil, is the configuration of TLS. HTTP/2 and HTTP/1.1 are both served.
	TLS *tls.Config
	// H2C also serves HTTP/2 without TLS, to clients that know so beforehand (RFC 9113, section
	// 3.3). It does nothing if TLS is set.
	H2C bool
	// OnHTTP2Error, if not nil, is called with a short name of each error of an HTTP/2 client, such
	// as "conn_PROTOCOL_ERROR_first_settings". There are about 60 names.
	OnHTTP2Error func(name string)
}

// SetTransport sets the transport of listeners that are opened afterwards.
func (s *Server) SetTransport(t Transport) { s.transport = t }

// apply configures server, which must not be serving yet.
func (t Transport) apply(server *http.Server) {
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(t.TLS != nil)
	server.Protocols.SetUnencryptedHTTP2(t.TLS == nil && t.H2C)
	server.TLSConfig = t.TLS.Clone() // net/http changes it
	// The maximum size of the header list follows from MaxHeaderBytes: net/http adds 320 bytes, and
	// responds with 431 to what exceeds it, as it does for HTTP/1.1.
	server.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          maxStreams,
		MaxReadFrameSize:              maxFrameBytes,
		MaxReceiveBufferPerConnection: receiveWindow,
		MaxReceiveBufferPerStream:     receiveWindow,
		MaxDecoderHeaderTableSize:     maxHeaderTable,
		MaxEncoderHeaderTableSize:     maxHeaderTable,
		SendPingTimeout:               pingAfter,
		PingTimeout:                   pingTimeout,
		// The deadlines of responses apply to streams. This one is for a client that does not read
		// from the connection at all.
		WriteByteTimeout: writeTimeout,
		CountError:       t.OnHTTP2Error,
	}
}
