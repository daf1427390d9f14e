package main

import (
	"strings"
	"testing"
)

func TestParseMallocs(t *testing.T) {
	for _, test := range []struct {
		name, profile string
		want          uint64
		fails         bool
	}{
		{"a profile", "heap profile: 1: 2 [3: 4] @ heap/1048576\n\n# runtime.MemStats\n# Alloc = 5\n# Mallocs = 12345\n# Frees = 6\n", 12345, false},
		{"the last line", "# Mallocs = 7", 7, false},
		{"no statistics", "heap profile: 1: 2 [3: 4] @ heap/1048576\n", 0, true},
		{"not a number", "# Mallocs = many\n", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseMallocs(strings.NewReader(test.profile))
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("got %d, %v; want %d", got, err, test.want)
			}
		})
	}
}

func TestParsePeakMemory(t *testing.T) {
	for _, test := range []struct {
		name, status string
		want         uint64
		fails        bool
	}{
		{"a status", "Name:\tbench\nVmPeak:\t 999 kB\nVmHWM:\t    1720 kB\nVmRSS:\t 1 kB\n", 1720 << 10, false},
		{"a process without memory", "Name:\tkthreadd\n", 0, true},
		{"another unit", "VmHWM:\t 3 MB\n", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parsePeakMemory(strings.NewReader(test.status))
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("got %d, %v; want %d", got, err, test.want)
			}
		})
	}
}
