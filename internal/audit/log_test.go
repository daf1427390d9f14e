package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// device is a file that can be full, and then takes only some bytes.
type device struct {
	text bytes.Buffer
	full bool
	room int // bytes that it still takes when it is full
}

func (d *device) Write(data []byte) (int, error) {
	if !d.full {
		return d.text.Write(data)
	}
	n := min(d.room, len(data))
	d.room -= n
	d.text.Write(data[:n])
	return n, errors.New("no space left on device")
}

func (*device) Close() error { return nil }

func open(t *testing.T, failure Failure, log io.Writer) (*Log, *device) {
	t.Helper()
	d := new(device)
	l, err := newLog(func() (io.WriteCloser, error) { return d, nil }, failure, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return l, d
}

// ids returns the request ids of the lines, which must all be whole.
func ids(t *testing.T, text string) string {
	t.Helper()
	var all []string
	for line := range strings.Lines(text) {
		var l Line
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		all = append(all, l.RequestID)
	}
	return strings.Join(all, " ")
}

func TestALineHasAllFields(t *testing.T) {
	log, d := open(t, Refuse, io.Discard)
	log.Write(Line{})
	var fields map[string]any
	if err := json.Unmarshal(d.text.Bytes(), &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"time", "caller", "group", "client_ip", "rpc", "resource", "outcome", "code", "reason", "request_id", "trace_id", "idempotency_key_hash"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("an empty line has no %s: %s", name, d.text.String())
		}
		delete(fields, name)
	}
	if len(fields) > 0 {
		t.Errorf("more fields: %v", fields)
	}
}

func TestWhileTheLogCannotBeWritten(t *testing.T) {
	for _, test := range []struct {
		failure        Failure
		refuses, ready bool
	}{{Refuse, true, true}, {Continue, false, false}} {
		t.Run(string(test.failure), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, d := open(t, test.failure, io.Discard)
				if log.Refuses() || !log.Ready() {
					t.Error("it fails before anything was written")
				}
				d.full, d.room = true, 10
				log.Write(Line{RequestID: "a"})
				log.Write(Line{RequestID: "b"})
				if log.Refuses() != test.refuses || log.Ready() != test.ready || log.Waiting() != 2 || log.Failures() != 1 {
					t.Errorf("refuses %t, ready %t, %d lines wait, %d failures", log.Refuses(), log.Ready(), log.Waiting(), log.Failures())
				}
				d.full = false
				if log.Ready() != test.ready {
					t.Error("it was tried again at once")
				}
				time.Sleep(retryDelay)
				if log.Refuses() || !log.Ready() || log.Waiting() != 0 {
					t.Error("it is not tried again after the delay")
				}
				log.Write(Line{RequestID: "c"})
				if got := ids(t, d.text.String()); got != "a b c" {
					t.Errorf("the lines are of %q", got)
				}
			})
		})
	}
}

func TestLinesAreNeverDroppedSilently(t *testing.T) {
	t.Run("too many wait", func(t *testing.T) {
		var program bytes.Buffer
		log, d := open(t, Continue, &program)
		d.full = true
		for range maxWaiting {
			log.Write(Line{RequestID: "waits"})
		}
		if strings.Contains(program.String(), "waits") {
			t.Fatal("lines are in the program's log although they can wait")
		}
		log.Write(Line{RequestID: "last"})
		if n := strings.Count(program.String(), "waits"); n != 1 || log.Lost() != 1 || log.Waiting() != maxWaiting {
			t.Errorf("%d lines are in the program's log, %d lost, %d wait", n, log.Lost(), log.Waiting())
		}
	})
	t.Run("the program ends", func(t *testing.T) {
		var program bytes.Buffer
		log, d := open(t, Refuse, &program)
		d.full = true
		log.Write(Line{RequestID: "lost"})
		if err := log.Close(); err == nil || !strings.Contains(program.String(), "lost") {
			t.Errorf("%v, and the program's log is %s", err, &program)
		}
	})
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	log, err := Open(path, Refuse, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	log.Write(Line{RequestID: "before"})
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	log.Write(Line{RequestID: "between"})
	if err := log.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Write(Line{RequestID: "after"})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{path + ".1": "before between", path: "after"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(t, string(text)); got != want {
			t.Errorf("%s has the lines of %q, want %q", filepath.Base(file), got, want)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
}

func TestAFileThatCannotBeOpenedAgainIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := Open(filepath.Join(dir, "audit.log"), Refuse, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".1"); err != nil {
		t.Fatal(err)
	}
	if err := log.Reopen(); err == nil {
		t.Error("the directory is gone, and there is no error")
	}
	log.Write(Line{RequestID: "kept"})
	text, err := os.ReadFile(filepath.Join(dir+".1", "audit.log"))
	if err != nil || ids(t, string(text)) != "kept" {
		t.Errorf("%s, %v", text, err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
