package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	mediaEventStream = "text/event-stream"

	// writeTimeout is how long a reader may hold up one write before it is
	// dropped, unless WithWriteTimeout says otherwise. There is no other limit to
	// how long a stream lives.
	writeTimeout = 30 * time.Second
)

// errDraining ends streams when the gateway is about to stop.
var errDraining = errors.New("the gateway is about to stop")

// outcome tells who frames a stream that the runtime met an error on it: the
// runtime writes an error as it writes a message.
type outcome struct{ failed bool }

type outcomeKey struct{}

// stream frames the answer of a streaming method as the client asks: a
// WebSocket, server-sent events, or a JSON message a line, which is also what
// */* and application/json get.
func (o options) stream(method *Method, next http.Handler) http.Handler {
	if !method.Streams() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		if o.drain != nil {
			defer context.AfterFunc(o.drain, func() { cancel(errDraining) })()
		}
		end := new(outcome)
		r = r.WithContext(context.WithValue(ctx, outcomeKey{}, end))
		if wantsSocket(r) {
			if !o.fromOrigin(r) {
				apierror.Write(w, r, apierror.New(codes.PermissionDenied, apierror.CrossSite,
					"A page of "+r.Header.Get("Origin")+" may not open a WebSocket here. Its origin must be listed with --cors-origin."))
				return
			}
			messages := newSocket(w, r, end, cancel, o)
			defer messages.close()
			next.ServeHTTP(messages, r)
			return
		}
		if preferred(r.Header.Values("Accept"), streamMedia()) != mediaEventStream {
			// The runtime tells with the first message; a stream may have none.
			w.Header().Set("Content-Type", mediaNDJSON)
			next.ServeHTTP(&timedWriter{w, timed{http.NewResponseController(w), o.writeTimeout}}, r)
			return
		}
		events := newEventStream(w, end, r.Header.Get("Last-Event-ID"), o)
		defer events.close()
		next.ServeHTTP(events, r)
	})
}

// streamMedia are the media types of a stream, the one to fall back on first.
func streamMedia() []string { return []string{mediaNDJSON, mediaJSON, mediaEventStream} }

// preferred is the media type that Accept gives the highest weight, the first
// of those that share it.
func preferred(accept, produced []string) string {
	if len(accept) == 0 {
		return produced[0]
	}
	best, weight := produced[0], 0.0
	for _, media := range produced {
		if q := quality(accept, media); q > weight {
			best, weight = media, q
		}
	}
	return best
}

// timedWriter gives each write its own deadline.
type timedWriter struct {
	http.ResponseWriter
	timed timed
}

func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *timedWriter) Write(data []byte) (n int, err error) {
	err = w.timed.do(func() error {
		n, err = w.ResponseWriter.Write(data)
		return err
	})
	return n, err
}

func (w *timedWriter) FlushError() error { return w.timed.do(w.timed.control.Flush) }

// timed bounds the time of each write to a connection.
type timed struct {
	control *http.ResponseController
	timeout time.Duration
}

// do writes. The deadline is lifted after it, because over HTTP/2 one that
// passes ends the stream even if nothing is being written.
func (t timed) do(write func() error) error {
	if err := t.control.SetWriteDeadline(time.Now().Add(t.timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	if err := t.control.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
