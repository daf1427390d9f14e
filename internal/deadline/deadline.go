// Package deadline ends responses whose clients do not read. [http.Server.WriteTimeout] limits the
// whole response, which would abort streams and large responses to slow clients. A [Writer] limits
// the time without progress instead.
package deadline

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// step is the progress that a client must make within the timeout, in bytes: larger writes are
	// split, since one write is all that a deadline of a connection covers.
	step = 64 << 10
	// fresh is the part of the timeout for which a deadline is not set again, because that takes
	// longer than to look at the clock. The time that a client has is shorter by this part at most.
	fresh = 8
)

// Writer is an [http.ResponseWriter] that fails, and with it the connection, if the client does not
// take 64 KiB or the rest of a write within the timeout. Deadlines are set as late as possible, so
// that time in which nothing is written does not count.
//
// Like any ResponseWriter it must not be used concurrently.
type Writer struct {
	http.ResponseWriter

	control http.ResponseController
	timeout time.Duration
	// lift is set for HTTP/2, where a deadline that passes resets the stream even if nothing is
	// being written.
	lift bool
	// set is when the deadline was set, zero if there is none.
	set      time.Time
	hijacked bool
}

// NewWriter returns a writer of the response to r. The timeout must be positive.
func NewWriter(w http.ResponseWriter, r *http.Request, timeout time.Duration) *Writer {
	return &Writer{ResponseWriter: w, control: *http.NewResponseController(w), timeout: timeout, lift: r.ProtoMajor >= 2}
}

// Unwrap is for [http.ResponseController].
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements [io.Writer].
func (w *Writer) Write(data []byte) (written int, err error) {
	for {
		piece := data[:min(len(data), step)]
		data = data[len(piece):]
		if err := w.begin(); err != nil {
			return written, err
		}
		n, err := w.ResponseWriter.Write(piece)
		written += n
		if err == nil && w.lift {
			err = w.clear()
		}
		if err != nil || len(data) == 0 {
			return written, err
		}
	}
}

// ReadFrom implements [io.ReaderFrom].
func (w *Writer) ReadFrom(source io.Reader) (int64, error) {
	buffer := buffers.Get().(*[step]byte)
	defer buffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{w}, source, buffer[:])
}

var buffers = sync.Pool{New: func() any { return new([step]byte) }}

// FlushError is what [http.ResponseController.Flush] calls.
func (w *Writer) FlushError() error {
	if err := w.begin(); err != nil {
		return err
	}
	if err := w.control.Flush(); err != nil {
		return err
	}
	if w.lift {
		return w.clear()
	}
	return nil
}

// Flush implements [http.Flusher].
func (w *Writer) Flush() {
	_ = w.FlushError() // the next write fails as well
}

// Hijack implements [http.Hijacker]. The connection has no deadline then.
func (w *Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := w.control.Hijack()
	w.hijacked = w.hijacked || err == nil
	return conn, buffered, err
}

// Finish sets the deadline for what the server writes after the handler has returned: what it
// buffered, and the end of the response. For HTTP/1.1 the server lifts the deadline afterwards.
func (w *Writer) Finish() {
	if !w.hijacked {
		_ = w.begin() // the connection is broken
	}
}

// begin sets the deadline, if it was not set recently.
func (w *Writer) begin() error {
	now := time.Now()
	if now.Sub(w.set) < w.timeout/fresh {
		return nil
	}
	w.set = now
	return w.setDeadline(now.Add(w.timeout))
}

func (w *Writer) clear() error {
	w.set = time.Time{}
	return w.setDeadline(time.Time{})
}

// setDeadline ignores that a ResponseWriter, such as that of a test, has no deadlines.
func (w *Writer) setDeadline(at time.Time) error {
	if err := w.control.SetWriteDeadline(at); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
