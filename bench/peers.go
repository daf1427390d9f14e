package main

import (
	"context"
	"os"
)

// peer is a gateway that is measured.
type peer struct {
	name string
	// lacks is why it cannot answer a row, "" where it can.
	lacks func(*row) string
	// extra is a peer that is measured only where it is named.
	extra bool
	// store is the --store of mesh-gateway, "" for peers that are not mesh-gateway. If keyed
	// is true, each request has an Idempotency-Key.
	store string
	keyed bool
	// flags and environment are more of those of mesh-gateway.
	flags, environment []string
}

func (p peer) String() string { return p.name }

// newPeers returns all peers, in the order of the tables. The first is what the others
// are compared with.
func newPeers() []peer {
	nothing := func(*row) string { return "" }
	streams := func(r *row) string {
		if r.stream {
			return "vanguard has no server streams over REST"
		}
		return ""
	}
	return []peer{
		{name: stockRole, lacks: nothing},
		{name: meshGateway, lacks: nothing, store: memoryStore},
		{name: vanguardRole, lacks: streams},
		{name: floorRole, lacks: nothing},
		{name: stockRole + chainSuffix, lacks: nothing, extra: true},
		{name: vanguardRole + chainSuffix, lacks: streams, extra: true},
	}
}

// field is the upstream and the peers, as processes.
type field struct {
	dir     string
	self    string // this program
	gateway string // the program mesh-gateway, "" where it takes no part

	upstream *process
	peers    map[string]*process
}

// newField starts the upstream, and builds mesh-gateway from the repository at root if it
// takes part.
func newField(ctx context.Context, dir, root string, withGateway bool) (f *field, err error) {
	f = &field{dir: dir, peers: make(map[string]*process)}
	if f.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if withGateway {
		if f.gateway, err = buildGateway(ctx, root, dir); err != nil {
			return nil, err
		}
	}
	if f.upstream, err = f.startRole(upstreamRole, ""); err != nil {
		return nil, err
	}
	if err := f.upstream.ready(ctx); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *field) startRole(role, upstream string) (*process, error) {
	return start(f.dir, role, readyAnnouncement, f.self, "role", role, upstream)
}

// restart replaces the peers by new processes, so that no row is measured on the heap
// that another one left behind.
func (f *field) restart(ctx context.Context, peers []peer) (err error) {
	f.stopPeers()
	for _, p := range peers {
		var started *process
		if p.store != "" {
			started, err = startGateway(f.dir, p, f.gateway, f.upstream.address)
		} else {
			started, err = f.startRole(p.name, f.upstream.address)
		}
		if err != nil {
			return err
		}
		started.keyed = p.keyed
		f.peers[p.name] = started
	}
	for _, p := range f.peers {
		if err := p.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *field) stopPeers() {
	for name, p := range f.peers {
		p.stop()
		delete(f.peers, name)
	}
}

// stop ends all processes.
func (f *field) stop() {
	f.stopPeers()
	f.upstream.stop()
}
