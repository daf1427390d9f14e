package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// counters are what a process has used since it started.
type counters struct {
	cpu     time.Duration
	mallocs uint64
}

// readMallocs returns how many objects a process has allocated on its heap, from its
// profile of allocations.
func readMallocs(ctx context.Context, side string) (uint64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+side+"/debug/pprof/allocs?debug=1", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s", request.URL, response.Status)
	}
	return parseMallocs(response.Body)
}

// parseMallocs finds the line "# Mallocs = N" of a profile.
func parseMallocs(profile io.Reader) (uint64, error) {
	value, err := findValue(profile, "# Mallocs =")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(value, 10, 64)
}

// resetPeakMemory makes the kernel count the peak of a process's memory from now on
// (proc(5), /proc/PID/clear_refs).
func resetPeakMemory(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// readPeakMemory returns the largest resident memory of a process in bytes.
func readPeakMemory(pid int) (uint64, error) {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer func() { _ = status.Close() }()
	return parsePeakMemory(status)
}

// parsePeakMemory finds the line "VmHWM: N kB" of /proc/PID/status.
func parsePeakMemory(status io.Reader) (uint64, error) {
	value, err := findValue(status, "VmHWM:")
	if err != nil {
		return 0, err
	}
	kilobytes, found := strings.CutSuffix(value, " kB")
	if !found {
		return 0, fmt.Errorf("VmHWM is %q, want kB", value)
	}
	bytes, err := strconv.ParseUint(kilobytes, 10, 64)
	return bytes << 10, err
}

// findValue returns what follows the prefix on the first line that has it.
func findValue(text io.Reader, prefix string) (string, error) {
	lines := bufio.NewReader(text)
	for {
		line, err := lines.ReadString('\n')
		if value, found := strings.CutPrefix(line, prefix); found {
			return strings.TrimSpace(value), nil
		}
		if err != nil {
			return "", fmt.Errorf("no line starts with %q: %w", prefix, err)
		}
	}
}

// sample is what one measurement of a peer came to. Times are in seconds, memory in bytes.
type sample struct {
	Round       int     `json:"round"`
	Row         string  `json:"row"`
	Peer        string  `json:"peer"`
	Requests    int     `json:"requests"`
	CPU         float64 `json:"cpu_seconds_per_request"`
	Rate        float64 `json:"requests_per_second"`
	P50         float64 `json:"p50_seconds"`
	P99         float64 `json:"p99_seconds"`
	Allocations float64 `json:"allocations_per_request"`
	PeakMemory  float64 `json:"peak_memory_bytes"`
	// FirstEvent is the median time from sending a request to the first byte of the body
	// of its answer.
	FirstEvent float64 `json:"first_event_seconds"`
}

// measure puts load on a peer and reads what it cost. The size is that of an answer.
func measure(ctx context.Context, p *process, r *row, requests, size int) (sample, error) {
	l, err := newLoad(ctx, p.address, r, p.keyed, r.warm(requests), size)
	if err != nil {
		return sample{}, err
	}
	defer l.close()
	if err := resetPeakMemory(p.pid()); err != nil {
		return sample{}, err
	}
	// Reading the allocations allocates too: the second reading tells how much.
	first, err := readMallocs(ctx, p.side)
	if err != nil {
		return sample{}, err
	}
	var before, after counters
	if before.mallocs, err = readMallocs(ctx, p.side); err != nil {
		return sample{}, err
	}
	if before.cpu, err = readCPU(p.pid()); err != nil {
		return sample{}, err
	}
	result, err := l.run(requests)
	if err != nil {
		return sample{}, err
	}
	if after.cpu, err = readCPU(p.pid()); err != nil {
		return sample{}, err
	}
	memory, err := readPeakMemory(p.pid())
	if err != nil {
		return sample{}, err
	}
	if after.mallocs, err = readMallocs(ctx, p.side); err != nil {
		return sample{}, err
	}
	reading := before.mallocs - first
	allocations := float64(after.mallocs-before.mallocs) - float64(reading)
	n := float64(requests)
	return sample{
		Row: r.name, Peer: p.name, Requests: requests,
		CPU:         (after.cpu - before.cpu).Seconds() / n,
		Rate:        n / result.elapsed.Seconds(),
		P50:         percentile(result.latencies, 50).Seconds(),
		P99:         percentile(result.latencies, 99).Seconds(),
		Allocations: allocations / n,
		PeakMemory:  float64(memory),
		FirstEvent:  percentile(result.first, 50).Seconds(),
	}, nil
}
