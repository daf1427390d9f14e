// Package audit keeps a log of what became of each WRITE: one line of JSON per request, for those who
// must be able to say later who changed what.
//
// # What a line promises
//
// A WRITE that passes the checks of the gateway has its line before the client has its answer. The
// line is written with one system call, so it survives the end of the gateway, but not the loss of the
// machine's power: send the lines to another machine if that matters. A gateway that is killed between
// a call and its answer leaves no line, and its client no answer. With an Idempotency-Key, the store
// has a record of that call ("mesh-gateway store list --sent").
//
// # What happens when a line cannot be written
//
// Lines that could not be written wait in memory, in their order, and are written once the log works
// again. If too many wait, or if the gateway ends, they are written to the program's own log. What the
// gateway does meanwhile is its operator's choice ([Failure]).
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Failure is what the gateway does with WRITEs while the audit log cannot be written.
type Failure string

const (
	// Refuse refuses WRITEs with 503. Nothing is sent. The WRITE that finds the log broken was carried
	// out before that is known.
	Refuse Failure = "refuse"
	// Continue serves WRITEs and makes the gateway not ready (/readyz).
	Continue Failure = "continue"
)

const (
	// maxWaiting is the maximum number of lines that wait. A line has 500 bytes or so.
	maxWaiting = 10_000
	// retryDelay is how long no attempt is made after a write has failed.
	retryDelay = time.Second
)

// Line is a line of the audit log. All of its fields are always there.
type Line struct {
	// Time is when the outcome was known, in UTC.
	Time time.Time `json:"time"`
	// Caller is the SHA-256 of the API key in base64 ([telemetry.Caller]).
	Caller string `json:"caller"`
	Group  string `json:"group"`
	// Client is the address of the client.
	Client string `json:"client_ip"`
	// RPC is the full name of the method.
	RPC string `json:"rpc"`
	// Resource is the name of the resource that was to be changed, or of the one that was created. It
	// is "" if neither is known.
	Resource string  `json:"resource"`
	Outcome  Outcome `json:"outcome"`
	// Code is the name of the gRPC code, and Reason that of the gateway's error, "" if it is an error
	// of Mesh or none.
	Code      string `json:"code"`
	Reason    string `json:"reason"`
	RequestID string `json:"request_id"`
	TraceID   string `json:"trace_id"`
	// KeyHash is the SHA-256 of the Idempotency-Key in base64, or "" if there is none.
	KeyHash string `json:"idempotency_key_hash"`
}

// Log is an audit log. It is safe for concurrent use.
type Log struct {
	open    func() (io.WriteCloser, error)
	failure Failure
	logger  *slog.Logger
	now     func() time.Time

	mu  sync.Mutex
	out io.WriteCloser
	// waiting are the lines that could not be written. The first may be the rest of a line.
	waiting [][]byte
	retry   time.Time

	failing        atomic.Bool
	failures, lost atomic.Uint64
}

// Open opens the file at path for appending. It is created with the mode 0600 if necessary. The logger
// receives what fails, and the lines that cannot be written to the file.
func Open(path string, failure Failure, logger *slog.Logger) (*Log, error) {
	return newLog(func() (io.WriteCloser, error) {
		return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	}, failure, logger)
}

// To returns a log that is written to out, such as standard output. It is not closed with the log.
func To(out io.Writer, failure Failure, logger *slog.Logger) (*Log, error) {
	return newLog(func() (io.WriteCloser, error) { return unclosed{out}, nil }, failure, logger)
}

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

func newLog(open func() (io.WriteCloser, error), failure Failure, logger *slog.Logger) (*Log, error) {
	out, err := open()
	if err != nil {
		return nil, err
	}
	return &Log{open: open, out: out, failure: failure, logger: logger, now: time.Now}, nil
}

// Write writes a line, after those that wait. It returns when the line is written, or waits because it
// cannot be.
func (l *Log) Write(line Line) {
	text, err := json.Marshal(line)
	if err != nil { // not reached: a Line can always be marshalled
		l.logger.Error("a line of the audit log cannot be written", slog.Any("error", err))
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == maxWaiting {
		l.lose(l.waiting[0])
		l.waiting = l.waiting[1:]
	}
	l.waiting = append(l.waiting, append(text, '\n'))
	if len(l.waiting) == 1 || !l.now().Before(l.retry) {
		l.flush()
	}
}

// flush writes the lines that wait, until one cannot be written.
func (l *Log) flush() {
	for len(l.waiting) > 0 {
		n, err := l.out.Write(l.waiting[0])
		if err == nil && n < len(l.waiting[0]) {
			err = io.ErrShortWrite
		}
		if err != nil {
			// What was written must not be written again.
			l.waiting[0] = l.waiting[0][n:]
			l.retry = l.now().Add(retryDelay)
			l.failures.Add(1)
			if !l.failing.Swap(true) {
				l.logger.Error("the audit log cannot be written; "+l.consequence(), slog.Any("error", err))
			}
			return
		}
		l.waiting = l.waiting[1:]
	}
	l.waiting = nil
	if l.failing.Swap(false) {
		l.logger.Info("the audit log is written again, and no line is missing from it unless one is in this log")
	}
}

func (l *Log) consequence() string {
	if l.failure == Refuse {
		return "writes are refused until it can be"
	}
	return "its lines wait, and the gateway is not ready until it can be"
}

// lose writes a line to the program's log.
func (l *Log) lose(line []byte) {
	l.lost.Add(1)
	l.logger.Error("a line could not be written to the audit log", slog.String("line", string(line)))
}

// Working reports whether the log can be written. It tries again if it could not be, at most once per
// second.
func (l *Log) Working() bool {
	if !l.failing.Load() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.now().Before(l.retry) {
		l.flush()
	}
	return !l.failing.Load()
}

// Refuses reports whether a WRITE must be refused now.
func (l *Log) Refuses() bool { return l.failure == Refuse && !l.Working() }

// Ready reports whether the gateway may be ready. While WRITEs are refused it may, since reads are not.
func (l *Log) Ready() bool { return l.failure == Refuse || l.Working() }

// Reopen opens the file again, as after logrotate has renamed it, and writes the lines that wait to
// it. If it cannot be opened, the file that was open stays in use.
func (l *Log) Reopen() error {
	out, err := l.open()
	if err != nil {
		return fmt.Errorf("audit log: %w; the one that was open stays in use", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.out
	l.out = out
	l.flush()
	return old.Close()
}

// Failures returns how many writes have failed.
func (l *Log) Failures() uint64 { return l.failures.Load() }

// Lost returns how many lines were written to the program's log instead.
func (l *Log) Lost() uint64 { return l.lost.Load() }

// Waiting returns how many lines wait.
func (l *Log) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// Close writes the lines that wait, to the program's log if they cannot be written to the file, and
// closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	var err error
	if n := len(l.waiting); n > 0 {
		err = fmt.Errorf("audit log: %d lines could not be written to it and are in the log", n)
	}
	for _, line := range l.waiting {
		l.lose(line)
	}
	l.waiting = nil
	return errors.Join(err, l.out.Close())
}
