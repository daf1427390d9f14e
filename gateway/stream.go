package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/deadline"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	"github.com/meshtrade/mesh-gateway/internal/wirejson"
)

// framing writes a stream in one format. open, message, end and fail are called one
// after another, and either end or fail is the last. keepAlive is called meanwhile; it
// does nothing once its context is done.
type framing interface {
	// open answers with status 200, or upgrades the connection.
	open() error
	// message may append to json. It need not flush if there are more messages, since the
	// next one or the end follows at once.
	message(json []byte, more bool) error
	keepAlive(ctx context.Context) error
	end() error
	// fail ends the stream with an error.
	fail(st *spb.Status) error
}

// stream receives the messages of a streaming call. Its life is the same in every
// framing:
//
//  1. Until the first message it is a plain answer: a refusal is written with its own
//     status (writeError). The connection waits for the first message or the refusal
//     at most one keep-alive interval (conn.go).
//  2. The runtime forwards nil and the stream opens. A HEAD request ends here.
//  3. Messages are written as they come, with keep-alives while none does.
//  4. It ends well when the upstream ends the call, or with the error that the runtime
//     writes: of the upstream, of a deadline, or of a drain.
type stream struct {
	http.ResponseWriter // the answer until it opens, and its headers

	framing framing
	request *request
	head    bool
	every   time.Duration // between keep-alives
	// leave ends the call upstream.
	leave context.CancelCauseFunc
	// undrain stops waiting for the drain.
	undrain func() bool

	opened, failed bool
	// busy gets a value for each message, which puts the keep-alive off.
	busy  chan struct{}
	alive sync.WaitGroup
	stop  context.CancelFunc
}

// newStream returns the stream that answers a request. The caller closes it.
func newStream(w http.ResponseWriter, r *http.Request, q *request, chosen format, leave context.CancelCauseFunc) *stream {
	o := q.route.options
	s := &stream{
		ResponseWriter: w, request: q, head: r.Method == http.MethodHead, every: o.keepAlive, leave: leave,
		undrain: func() bool { return true }, busy: make(chan struct{}, 1), stop: func() {},
	}
	if o.drain != nil {
		s.undrain = context.AfterFunc(o.drain, func() { leave(errDraining) })
	}
	timed := &timedWriter{w: deadline.NewWriter(w, r, o.writeTimeout), last: o.drain != nil && r.ProtoMajor == 1}
	switch chosen {
	case asWebSocket:
		s.framing = &webSocket{w: w, request: r, leave: leave, timeout: o.writeTimeout}
	case asEvents:
		s.framing = &events{out: timed, seen: r.Header.Get(wire.LastEventIDHeader)}
	default:
		s.framing = &lines{out: timed}
	}
	return s
}

// errHeadersOnly ends a stream whose headers are all that was asked for.
var errHeadersOnly = errors.New("gateway: HEAD ends with the headers")

func (s *stream) receive(message proto.Message) error {
	if message == nil {
		return s.open()
	}
	return s.request.renderTo(message, func(body []byte) error {
		form, _ := s.request.wireForm()
		if size := len(form) + len(body); size >= wirejson.PieceSize/2 { // the charge of a call covers small ones
			s.request.hold(size)
			defer s.request.hold(0)
		}
		select {
		case s.busy <- struct{}{}:
		default:
		}
		return s.sent(s.framing.message(body, s.request.more))
	})
}

func (s *stream) open() error {
	s.opened = true
	if err := s.sent(s.framing.open()); err != nil {
		return err
	}
	if s.head {
		s.failed = true // nothing may follow
		return errHeadersOnly
	}
	ctx, stop := context.WithCancel(s.request.ctx)
	s.stop = stop
	s.alive.Go(func() { s.keepAlive(ctx) })
	return nil
}

func (s *stream) keepAlive(ctx context.Context) {
	timer := time.NewTimer(s.every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.busy:
		case <-timer.C:
			if err := s.framing.keepAlive(ctx); err != nil {
				s.leave(err)
				return
			}
		}
		timer.Reset(s.every)
	}
}

// sent words a failed write.
func (s *stream) sent(err error) error {
	if err == nil {
		return nil
	}
	return apierror.NewSent(codes.Canceled, apierror.ClientClosedRequest, "The client disconnected or read the stream too slowly.").WithCause(err)
}

// WriteHeader passes the status of a refusal on. On an open stream the runtime calls it
// before it writes an error, which needs no status.
func (s *stream) WriteHeader(status int) {
	if !s.opened {
		s.failed = true
		s.ResponseWriter.WriteHeader(status)
	}
}

// Write takes the body of a refusal or, on an open stream, the status that ends it as
// the codec marshals it.
func (s *stream) Write(data []byte) (int, error) {
	switch {
	case len(data) == 0 || s.opened && s.failed:
	case !s.opened:
		return s.ResponseWriter.Write(data)
	default:
		st := new(spb.Status)
		if err := proto.Unmarshal(data, st); err != nil {
			return 0, err
		}
		s.failed = true
		s.finish(func() error { return s.framing.fail(st) })
	}
	return len(data), nil
}

// FlushError does nothing: each message is flushed as it is written.
func (s *stream) FlushError() error { return nil }

// close ends a stream that did not end with an error.
func (s *stream) close() {
	s.undrain()
	if s.opened && !s.failed {
		s.finish(s.framing.end)
	}
	s.stop()
	s.alive.Wait()
}

// finish writes the end of the stream. A keep-alive that is under way is not waited
// for, since a WebSocket's waits for its client.
func (s *stream) finish(write func() error) {
	s.stop()
	_ = write() // the client may be gone
}

// timedWriter writes to an HTTP answer, and fails if its client does not read. It is safe for
// concurrent use.
type timedWriter struct {
	mu sync.Mutex
	w  *deadline.Writer
	// last reports whether the stream is the last response of its HTTP/1.1 connection. When a drain
	// ends the stream, the server closes the connection. Without notice, the client could already
	// have sent its next request.
	last bool
}

// write writes data and flushes it, unless more follows at once.
func (t *timedWriter) write(data []byte, more bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(data) > 0 {
		if _, err := t.w.Write(data); err != nil {
			return err
		}
	}
	if more {
		return nil
	}
	return t.w.FlushError()
}

// open answers with status 200 and the headers.
func (t *timedWriter) open(media string) error {
	t.w.Header().Set("Content-Type", media)
	if t.last {
		t.w.Header().Set("Connection", "close")
	}
	t.w.WriteHeader(http.StatusOK)
	return t.write(nil, false)
}

// requestID is the id of the request, which errors repeat.
func (t *timedWriter) requestID() string { return t.w.Header().Get(wire.RequestIDHeader) }
