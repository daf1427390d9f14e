package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// report is all that was measured. The samples are those of the rounds that count.
type report struct {
	Machine  machine  `json:"machine"`
	Requests int      `json:"requests"`
	Samples  []sample `json:"samples"`
	// Problems are what was not as expected, and Notes what could not be measured.
	Problems []string `json:"problems,omitempty"`
	Notes    []string `json:"notes,omitempty"`

	// Keyed are the writes with an Idempotency-Key, which have other peers.
	Keyed *report `json:"keyed,omitempty"`
	// Telemetry is a read by mesh-gateway with more and more telemetry.
	Telemetry *report `json:"telemetry,omitempty"`

	// title is the heading of the tables, or "".
	title string
	rows  []*row
	peers []peer
}

// measureAll checks all peers and measures them for as many rounds as the time allows.
// What fails is reported as a problem and not tried again. An error ends everything.
func (r *report) measureAll(ctx context.Context, f *field, o *options) error {
	sizes, err := r.checkAll(ctx, f)
	if err != nil {
		return err
	}
	begin := time.Now()
	var longest time.Duration
	for round := range o.rounds {
		roundBegin := time.Now()
		if round >= 2 && roundBegin.Add(longest).Sub(begin) > o.limit {
			r.problem("%d rounds of %d were measured: another would not end within %s (-limit)", round, o.rounds, o.limit)
			break
		}
		for _, row := range r.rows {
			if err := f.restart(ctx, r.peers); err != nil {
				return err
			}
			for i := range r.peers {
				// Each round begins with another peer.
				name := r.peers[(i+round)%len(r.peers)].name
				size, sound := sizes[contest{row.name, name}]
				if !sound {
					continue
				}
				s, err := measure(ctx, f.peers[name], row, row.count(o.requests), size)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if ended := f.peers[name].failure(); ended != nil {
					err = ended
				}
				if err != nil {
					r.problem("%s, %s, round %d: %v", name, row.name, round, err)
					delete(sizes, contest{row.name, name})
					continue
				}
				if s.Round = round; round > 0 {
					r.Samples = append(r.Samples, s)
				}
			}
			if ended := f.upstream.failure(); ended != nil {
				return ended
			}
		}
		longest = max(longest, time.Since(roundBegin))
		fmt.Fprintf(os.Stderr, "bench: round %d of %d took %s\n", round+1, o.rounds, time.Since(roundBegin).Round(time.Second/10))
	}
	return nil
}

// contest is a peer at a row.
type contest struct{ row, peer string }

// checkAll returns the sizes of the answers of all peers that answer a row as they should.
func (r *report) checkAll(ctx context.Context, f *field) (map[contest]int, error) {
	if err := f.restart(ctx, r.peers); err != nil {
		return nil, err
	}
	sizes := make(map[contest]int)
	for _, row := range r.rows {
		for _, p := range r.peers {
			if why := p.lacks(row); why != "" {
				r.Notes = append(r.Notes, fmt.Sprintf("%s, %s: not measured: %s.", p.name, row.name, why))
				continue
			}
			size, err := check(ctx, f.peers[p.name], row)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				r.problem("%s, %s: not measured: %v", p.name, row.name, err)
				continue
			}
			sizes[contest{row.name, p.name}] = size
		}
	}
	return sizes, nil
}

func (r *report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}
