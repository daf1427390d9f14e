package main

import (
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, test := range []struct {
		name   string
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{"of none", nil, 50, 0},
		{"of one", []time.Duration{7}, 99, 7},
		{"median of an odd number", []time.Duration{1, 2, 9}, 50, 2},
		{"median of an even number is the lower", []time.Duration{1, 2, 8, 9}, 50, 2},
		{"p99 of a hundred leaves one above", hundred, 99, 99},
		{"p100 is the last", hundred, 100, 100},
		{"p0 is the first", hundred, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := percentile(test.sorted, test.p); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestSpreadOf(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []float64
		want   spread
		found  bool
	}{
		{"none", nil, spread{}, false},
		{"one", []float64{3}, spread{3, 3, 3}, true},
		{"an odd number, unsorted", []float64{9, 1, 4}, spread{4, 1, 9}, true},
		{"an even number: between the two in the middle", []float64{8, 1, 2, 4}, spread{3, 1, 8}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, found := spreadOf(test.values)
			if got != test.want || found != test.found {
				t.Errorf("got %v %t, want %v %t", got, found, test.want, test.found)
			}
		})
	}
}

func TestRatiosAreTakenWithinARound(t *testing.T) {
	samples := []sample{
		{Round: 1, Row: "GET", Peer: "stock", CPU: 10},
		{Round: 1, Row: "GET", Peer: "floor", CPU: 5},
		// A slow round slows both, and the ratio stays.
		{Round: 2, Row: "GET", Peer: "stock", CPU: 100},
		{Round: 2, Row: "GET", Peer: "floor", CPU: 50},
		// Neither another row nor a round without stock counts.
		{Round: 2, Row: "search", Peer: "floor", CPU: 1000},
		{Round: 3, Row: "GET", Peer: "floor", CPU: 1000},
	}
	cpu := func(s sample) float64 { return s.CPU }
	if got, found := ratios(samples, "GET", "floor", "stock", cpu); got != (spread{0.5, 0.5, 0.5}) || !found {
		t.Errorf("ratio of the floor: %v %t, want 0.5 throughout", got, found)
	}
	if got, found := ratios(samples, "GET", "vanguard", "stock", cpu); found {
		t.Errorf("ratio of a peer without samples: %v", got)
	}
	if got, _ := absolutes(samples, "GET", "stock", cpu); got != (spread{55, 10, 100}) {
		t.Errorf("absolutes of stock: %v", got)
	}
}
