package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	// closeCodes begins the range that RFC 6455 leaves to applications; a stream
	// that failed with a gRPC code closes with their sum.
	closeCodes = 4000
	// maxCloseReason is what fits into a control frame beside the code.
	maxCloseReason = 123
)

// errLeft ends the upstream call of a client that closed its WebSocket.
var errLeft = errors.New("the client left")

// wantsSocket reports whether the request asks for a WebSocket.
func wantsSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// fromOrigin reports whether a WebSocket may be opened from where the request
// comes from. Browsers hold no CORS check against WebSockets, so the server must:
// a page needs the gateway's own origin or one that is listed. Programs send
// none.
func (o options) fromOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(o.origins, origin) {
		return true
	}
	parsed, err := url.Parse(origin)
	return err == nil && parsed.Host != "" && strings.EqualFold(parsed.Host, r.Host)
}

// socket frames what is written to it as WebSocket text messages, one each. The
// connection is upgraded with the first, so that a refusal before it is the
// plain answer it is. The end of a stream is the closing of the socket: 1000 for
// a good one, 1011 or 4000 plus the gRPC code for one that failed, with the
// message of its status, and 1012 where the gateway is about to stop.
type socket struct {
	writer  http.ResponseWriter
	request *http.Request
	// header is the handler's own, since the timer may upgrade meanwhile.
	header http.Header
	end    *outcome
	// leave ends the upstream call.
	leave   context.CancelCauseFunc
	timeout time.Duration // of a write

	mu      sync.Mutex
	conn    *websocket.Conn
	refused bool
	failure []byte // the {"error": Status} that came last
	err     error

	stop    chan struct{}
	stopped sync.WaitGroup
}

func newSocket(w http.ResponseWriter, r *http.Request, end *outcome, leave context.CancelCauseFunc, o options) *socket {
	s := &socket{writer: w, request: r, header: w.Header().Clone(), end: end, leave: leave, timeout: o.writeTimeout, stop: make(chan struct{})}
	if s.header == nil {
		s.header = make(http.Header)
	}
	s.stopped.Go(func() { s.beat(o.heartbeat) })
	return s
}

// beat opens a socket that is slow to begin and pings one that is open.
func (s *socket) beat(interval time.Duration) {
	timer := time.NewTimer(min(openAfter, interval))
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-timer.C:
		}
		s.mu.Lock()
		conn, err := s.conn, error(nil)
		if conn == nil && !s.refused {
			conn, err = s.accept()
		}
		s.mu.Unlock()
		if conn != nil && err == nil {
			ctx, cancel := context.WithTimeout(s.request.Context(), s.timeout)
			if conn.Ping(ctx) != nil {
				s.leave(errLeft)
			}
			cancel()
		}
		timer.Reset(interval)
	}
}

// accept upgrades the connection. The lock is held.
func (s *socket) accept() (*websocket.Conn, error) {
	if s.conn != nil || s.err != nil {
		return s.conn, s.err
	}
	// fromOrigin has looked at the origin.
	s.conn, s.err = websocket.Accept(s.writer, s.request, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if s.err != nil {
		return nil, s.err
	}
	// Nothing is read but the client's close, which ends the call upstream.
	read := s.conn.CloseRead(context.WithoutCancel(s.request.Context()))
	context.AfterFunc(read, func() { s.leave(errLeft) })
	return s.conn, nil
}

func (s *socket) Header() http.Header { return s.header }

// WriteHeader lets a refusal through; on an open socket it announces an error.
func (s *socket) WriteHeader(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status < http.StatusBadRequest {
		return
	}
	if s.conn != nil {
		s.end.failed = true
		return
	}
	s.refused = true
	maps.Copy(s.writer.Header(), s.header)
	s.writer.WriteHeader(status)
}

// Write takes one message.
func (s *socket) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused {
		return s.writer.Write(data)
	}
	message := bytes.TrimSpace(data)
	if len(message) == 0 {
		return len(data), nil
	}
	conn, err := s.accept()
	if err != nil {
		return 0, err
	}
	if s.end.failed {
		s.failure = statusIn(message)
		return len(data), nil
	}
	ctx, cancel := context.WithTimeout(s.request.Context(), s.timeout)
	defer cancel()
	return len(data), conn.Write(ctx, websocket.MessageText, message)
}

// FlushError does nothing: each message is sent as it is written.
func (s *socket) FlushError() error { return nil }

// Flush is for those who look for an http.Flusher.
func (s *socket) Flush() {}

// close ends the stream with the code that says how.
func (s *socket) close() {
	close(s.stop)
	s.mu.Lock()
	conn := s.conn
	if conn == nil && !s.refused {
		conn, _ = s.accept() // the client may be gone, which is no fault
	}
	code, reason := websocket.StatusNormalClosure, ""
	if s.end.failed {
		code, reason = closing(s.failure)
	}
	s.mu.Unlock()
	if conn != nil {
		_ = conn.Close(code, reason)
	}
	s.stopped.Wait()
}

// closing is the close code and reason of a Status.
func closing(failure []byte) (websocket.StatusCode, string) {
	var st struct {
		Code    codes.Code `json:"code"`
		Message string     `json:"message"`
		Details []struct {
			Reason string `json:"reason"`
		} `json:"details"`
	}
	if err := json.Unmarshal(failure, &st); err != nil {
		return websocket.StatusInternalError, ""
	}
	reason := strings.ToValidUTF8(st.Message[:min(len(st.Message), maxCloseReason)], "")
	for _, detail := range st.Details {
		if detail.Reason == string(apierror.Draining) {
			return websocket.StatusServiceRestart, reason
		}
	}
	if st.Code == codes.Internal || st.Code == codes.Unknown {
		return websocket.StatusInternalError, reason
	}
	return closeCodes + websocket.StatusCode(st.Code), reason
}
