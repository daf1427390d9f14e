package main

import (
	"math"
	"slices"
	"time"
)

// percentile returns the smallest of the sorted values that is at least as large as p per
// cent of them (the nearest-rank method), 0 of none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// spread is the middle of some values and how far they reach.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf returns false where there are no values.
func spreadOf(values []float64) (spread, bool) {
	if len(values) == 0 {
		return spread{}, false
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return spread{median, sorted[0], sorted[len(sorted)-1]}, true
}

// metric is one of the figures of a sample.
type metric struct {
	name string
	unit string
	// scale turns the figure into the unit, with a number of decimals.
	scale    float64
	decimals int
	of       func(sample) float64
	rows     func(*row) bool
}

func newMetrics() []metric {
	all := func(r *row) bool { return r.name != memoryRow }
	return []metric{
		{"CPU time per request", "µs", 1e6, 0, func(s sample) float64 { return s.CPU }, all},
		{"Latency, p50", "ms", 1e3, 2, func(s sample) float64 { return s.P50 }, all},
		{"Latency, p99", "ms", 1e3, 2, func(s sample) float64 { return s.P99 }, all},
		{"Requests per second (more is better)", "/s", 1, 0, func(s sample) float64 { return s.Rate }, all},
		{"Allocations per request", "", 1, 0, func(s sample) float64 { return s.Allocations }, all},
		{"Peak resident memory", "MiB", 1.0 / (1 << 20), 0, func(s sample) float64 { return s.PeakMemory }, func(*row) bool { return true }},
		{"Time to the first event", "ms", 1e3, 2, func(s sample) float64 { return s.FirstEvent }, func(r *row) bool { return r.stream }},
	}
}

// ratios compares a peer with the base: in each round its figure over that of the base in
// the same round. What slows a round down slows both.
func ratios(samples []sample, row, peer, base string, of func(sample) float64) (spread, bool) {
	bases := make(map[int]float64)
	for _, s := range samples {
		if s.Row == row && s.Peer == base {
			bases[s.Round] = of(s)
		}
	}
	var values []float64
	for _, s := range samples {
		if s.Row == row && s.Peer == peer && bases[s.Round] > 0 {
			values = append(values, of(s)/bases[s.Round])
		}
	}
	return spreadOf(values)
}

// absolutes are the figures of a peer as they are.
func absolutes(samples []sample, row, peer string, of func(sample) float64) (spread, bool) {
	var values []float64
	for _, s := range samples {
		if s.Row == row && s.Peer == peer {
			values = append(values, of(s))
		}
	}
	return spreadOf(values)
}
