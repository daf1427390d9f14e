package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"
)

const (
	// heartbeat is how often a silent stream shows that it lives: proxies cut
	// connections that are silent for half a minute.
	heartbeat = 15 * time.Second
	// openAfter is how long a refusal is waited for. Then the headers go out,
	// and a refusal that comes later is an event.
	openAfter = time.Second
	// retryAfter is when a browser that lost the stream connects again, in
	// milliseconds.
	retryAfter = 2000
)

// eventStream frames what is written to it as server-sent events (HTML
// standard, section 9.2): each write is one message. A refusal before the first
// of them passes through as the plain answer it is.
//
//	event: message   a message of the stream; its id is a hash of it
//	event: error     the stream failed; data is a google.rpc.Status
//	event: end       the stream ended well
type eventStream struct {
	writer http.ResponseWriter
	timed  timed
	// header is the handler's own, since the heartbeat may send the real one
	// while the handler still writes to it.
	header http.Header
	end    *outcome
	// seen is the id of the last message that the client has.
	seen string

	mu      sync.Mutex
	open    bool // the headers are out
	refused bool // with an error status
	failed  bool // an error event is out
	first   bool // no message came yet

	stop    chan struct{}
	stopped sync.WaitGroup
}

func newEventStream(w http.ResponseWriter, end *outcome, lastEventID string, o options) *eventStream {
	s := &eventStream{
		writer: w, timed: timed{http.NewResponseController(w), o.writeTimeout}, header: w.Header().Clone(), end: end,
		seen: lastEventID, first: true, stop: make(chan struct{}),
	}
	if s.header == nil {
		s.header = make(http.Header)
	}
	s.stopped.Go(func() { s.beat(o.heartbeat) })
	return s
}

// beat opens a stream that is slow to begin and keeps a silent one alive.
func (s *eventStream) beat(interval time.Duration) {
	timer := time.NewTimer(min(openAfter, interval))
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-timer.C:
			s.mu.Lock()
			if !s.refused {
				// Should it fail, the next message fails too and ends the stream.
				_ = s.send(": heartbeat\n\n")
			}
			s.mu.Unlock()
			timer.Reset(interval)
		}
	}
}

// send writes text, after the headers. The lock is held.
func (s *eventStream) send(text string) error {
	return s.timed.do(func() error {
		if !s.open {
			s.open = true
			header := s.writer.Header()
			header.Set("Content-Type", mediaEventStream)
			header.Set("Cache-Control", "no-store")
			header.Set("X-Accel-Buffering", "no") // nginx would hold events back
			s.writer.WriteHeader(http.StatusOK)
			text = fmt.Sprintf("retry: %d\n\n", retryAfter) + text
		}
		if _, err := s.writer.Write([]byte(text)); err != nil {
			return err
		}
		return s.timed.control.Flush()
	})
}

func (s *eventStream) Header() http.Header { return s.header }

// WriteHeader lets a refusal through. Where the stream is open already, what is
// written next is an error event.
func (s *eventStream) WriteHeader(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status < http.StatusBadRequest {
		return
	}
	if s.open {
		s.end.failed = true
		return
	}
	s.refused = true
	maps.Copy(s.writer.Header(), s.header)
	s.writer.WriteHeader(status)
}

// Write takes one message.
func (s *eventStream) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused {
		return s.writer.Write(data)
	}
	message := bytes.TrimSpace(data)
	if len(message) == 0 {
		return len(data), nil
	}
	if s.end.failed {
		s.failed = true
		return len(data), s.send("event: error\ndata: " + string(statusIn(message)) + "\n\n")
	}
	sum := sha256.Sum256(message)
	id := hex.EncodeToString(sum[:8])
	first := s.first
	s.first = false
	if first && id == s.seen {
		return len(data), s.send(": seen\n\n") // a client that connects again has it
	}
	return len(data), s.send("id: " + id + "\nevent: message\ndata: " + string(message) + "\n\n")
}

// statusIn takes a Status out of the {"error": Status} that ends a stream of
// lines; an error that came before the first message stands alone.
func statusIn(message []byte) []byte {
	var envelope struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(message, &envelope) == nil && envelope.Error != nil {
		return envelope.Error
	}
	return message
}

// FlushError does nothing: each event is flushed as it is sent.
func (s *eventStream) FlushError() error { return nil }

// Flush is for those who look for an http.Flusher.
func (s *eventStream) Flush() {}

// close ends the stream with its last event.
func (s *eventStream) close() {
	close(s.stop)
	s.stopped.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.refused && !s.failed {
		_ = s.send("event: end\ndata: {}\n\n") // the client may be gone, which is no fault
	}
}
