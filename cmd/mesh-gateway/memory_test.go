package main

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// gogc returns GOGC as it is set at the moment.
func gogc() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

// keepSettings restores the settings of the garbage collector after the test, which starts with 150
// and no limit.
func keepSettings(t *testing.T) {
	t.Helper()
	percent, limit := debug.SetGCPercent(150), debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
}

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		name        string
		inUse, want uint64
	}{
		{"nothing was collected yet", 0, 1600},
		{"a small heap grows by the headroom", 10 * mib, 640},
		{"a little less than the headroom", 60 * mib, 106},
		{"as much as the headroom", 64 * mib, 100},
		{"a large heap doubles", 1024 * mib, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := gcPercent(test.inUse, 64*mib); got != int(test.want) {
				t.Errorf("GOGC=%d, want %d", got, test.want)
			}
		})
	}
}

func TestTheOperatorsSettingsAreKept(t *testing.T) {
	const container, unlimited = 1000 << 20, int64(math.MaxInt64)
	for _, test := range []struct {
		name      string
		set       string // the environment variables that the operator set
		inFlight  int64
		tuned     bool
		wantLimit int64
	}{
		{"neither is set", "", 4 << 30, true, container / 10 * 9},
		{"calls in flight may hold less than the container has", "", 256 << 20, true, 256<<20 + programMemory},
		{"GOGC is set", "GOGC", 4 << 30, false, container / 10 * 9},
		{"GOMEMLIMIT is set", "GOMEMLIMIT", 256 << 20, true, unlimited},
		{"both are set", "GOGC GOMEMLIMIT", 256 << 20, false, unlimited},
	} {
		t.Run(test.name, func(t *testing.T) {
			keepSettings(t)
			lookup := func(name string) (string, bool) { return "", strings.Contains(test.set, name) }
			defer tuneMemory(lookup, memlimit.Limit(container), test.inFlight, slog.New(slog.DiscardHandler))()
			if got := gogc(); (got != 150) != test.tuned {
				t.Errorf("GOGC=%d, but it was 150; want a change: %t", got, test.tuned)
			}
			if got := debug.SetMemoryLimit(-1); got != test.wantLimit {
				t.Errorf("the memory limit is %d, want %d", got, test.wantLimit)
			}
		})
	}
}

func TestMemoryLimitThatCannotBeRead(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"a container without a limit", memlimit.ErrNoLimit, ""},
		{"no container", memlimit.ErrNoCgroup, ""},
		{"not Linux", memlimit.ErrCgroupsNotSupported, ""},
		{"another error", errors.New("memory.max is not a number"), "memory.max is not a number"},
	} {
		t.Run(test.name, func(t *testing.T) {
			keepSettings(t)
			var log strings.Builder
			fails := func() (uint64, error) { return 0, test.err }
			none := func(string) (string, bool) { return "", false }
			defer tuneMemory(none, fails, 1<<30, slog.New(slog.NewTextHandler(&log, nil)))()
			if got := debug.SetMemoryLimit(-1); got != 1<<30+programMemory {
				t.Errorf("the memory limit is %d, want what calls in flight and the program need", got)
			}
			if got := log.String(); !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("the log is %q, want %q", got, test.want)
			}
		})
	}
}

// TestTheCollectorFollowsTheHeap lets the heap grow and shrink.
func TestTheCollectorFollowsTheHeap(t *testing.T) {
	keepSettings(t)
	c := startCollector(64 << 20)
	defer c.stop()
	wait := func(what string, reached func(percent int) bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			runtime.GC()
			if reached(gogc()) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("GOGC=%d, want %s", gogc(), what)
			}
		}
	}
	wait("more than 100 for a small heap", func(percent int) bool { return percent > 100 })
	large := make([]byte, 100<<20)
	wait("100 for a large heap", func(percent int) bool { return percent == 100 })
	runtime.KeepAlive(large)
	wait("more than 100 once it is small again", func(percent int) bool { return percent > 100 })

	large = make([]byte, 100<<20)
	wait("100 for a large heap again", func(percent int) bool { return percent == 100 })
	runtime.KeepAlive(large)
	c.stop()
	if got := gogc(); got != 150 {
		t.Errorf("GOGC=%d after the end, want what it was before, 150", got)
	}
	runtime.GC()
	c.adjust() // as the collection before the end does, if it is late
	if got := gogc(); got != 150 {
		t.Errorf("GOGC=%d once the heap is small after the end, want 150", got)
	}
}

func TestServeTunesTheCollector(t *testing.T) {
	keepSettings(t)
	t.Setenv("GOGC", "") // so that it is restored
	if err := os.Unsetenv("GOGC"); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--sandbox", "--admin-listen", "127.0.0.1:0")
	text := p.admin(t, "/metrics")
	match := regexp.MustCompile(`(?m)^go_gc_gogc_percent (\S+)$`).FindStringSubmatch(text)
	if match == nil {
		t.Fatal("there is no go_gc_gogc_percent")
	}
	if percent, err := strconv.ParseFloat(match[1], 64); err != nil || percent == 150 {
		t.Errorf("GOGC=%s, as before the start", match[1])
	}
}
