package meshtest

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// transcriptTimeout is how long Wait waits. It is far more than any program takes.
const transcriptTimeout = 30 * time.Second

// Transcript is the output of a program. It can be read while the program writes.
type Transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{}
}

// NewTranscript returns an empty transcript.
func NewTranscript() *Transcript { return &Transcript{written: make(chan struct{}, 1)} }

// Write implements [io.Writer].
func (o *Transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.written <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

// String returns what has been written so far.
func (o *Transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Wait waits for a whole line that contains part and returns it. It fails the test
// after 30 seconds.
func (o *Transcript) Wait(t testing.TB, part string) string {
	t.Helper()
	deadline := time.After(transcriptTimeout)
	for {
		for line := range strings.Lines(o.String()) {
			if strings.Contains(line, part) && strings.HasSuffix(line, "\n") {
				return line
			}
		}
		select {
		case <-o.written:
		case <-deadline:
			t.Fatalf("no line contains %q:\n%s", part, o)
		}
	}
}
