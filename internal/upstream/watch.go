package upstream

import (
	"context"

	"google.golang.org/grpc/connectivity"
)

// Watch calls changed when it becomes known whether the upstream can be reached, and whenever that
// changes. It can if one connection is ready, and cannot if none is and one has failed to connect.
// Watch returns when ctx is done.
func (p *Pool) Watch(ctx context.Context, changed func(reachable bool)) {
	known, reachable := false, false
	for {
		p.mu.Lock()
		states := p.outage.changed
		p.mu.Unlock()
		now := p.anyReady()
		// While connections are idle or connecting, it is not certain.
		if certain := now || p.Connections(connectivity.TransientFailure) > 0; certain && (!known || now != reachable) {
			known, reachable = true, now
			changed(reachable)
		}
		select {
		case <-states:
		case <-ctx.Done():
			return
		}
	}
}
