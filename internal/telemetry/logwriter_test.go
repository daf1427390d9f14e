package telemetry_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// output is an output that can be held up.
type output struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
	hold   chan struct{} // nil if it is not held up
}

func (o *output) Write(data []byte) (int, error) {
	if o.hold != nil {
		<-o.hold
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	return o.text.Write(data)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func TestLogWriterWritesRecordsTogetherAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(output)
		w := telemetry.NewLogWriter(out)
		var want strings.Builder
		for i := range 100 {
			fmt.Fprintf(&want, "record %d\n", i)
			fmt.Fprintf(w, "record %d\n", i)
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if out.String() != want.String() || out.writes != 1 {
			t.Errorf("%d writes of\n%s", out.writes, out)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestLogWriterLosesNothingOnClose(t *testing.T) {
	out := new(output)
	w := telemetry.NewLogWriter(out)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 1000 {
				fmt.Fprintln(w, "record")
			}
		})
	}
	writers.Wait()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	fmt.Fprintln(w, "after the end")
	if lines := strings.Count(out.String(), "record\n"); lines != 8000 || !strings.HasSuffix(out.String(), "after the end\n") {
		t.Errorf("%d records", lines)
	}
}

func TestLogWriterDoesNotWaitForTheOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &output{hold: make(chan struct{})}
		w := telemetry.NewLogWriter(out)
		record := make([]byte, 1<<10)
		// 1 MiB is being written and 1 MiB waits. Neither delays the one who writes.
		for range 2 {
			for range 1 << 10 {
				_, _ = w.Write(record)
			}
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
		}
		written := make(chan struct{})
		go func() {
			_, _ = w.Write(record)
			close(written)
		}()
		synctest.Wait()
		select {
		case <-written:
			t.Error("there is no limit to what waits")
		default:
		}
		close(out.hold)
		<-written
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if out.text.Len() != 2<<20+1<<10 {
			t.Errorf("%d bytes were written", out.text.Len())
		}
	})
}
