package store

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// watchBuffer is how many changes a reader may be behind before it misses the oldest of them.
	watchBuffer = 256
	// maxWatchers bounds the streams that are open at one time.
	maxWatchers = 10_000
)

// Watch sends the record that find returns and then each change of it that is committed, until last
// reports that none will follow, or until ctx is done. A reader that is too slow holds nobody up:
// it misses changes in between, but never the last one.
func Watch[T Record](ctx context.Context, s *Store, table Table[T], find func(*Tx) (T, error), last func(T) bool, send func(T) error) error {
	current, w, err := subscribe(s, table, find)
	if err != nil {
		return err
	}
	at := watched{table.table, current.GetName()}
	defer s.watchers.remove(at, w)
	for {
		if err := send(current); err != nil || last(current) {
			return err
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case change, open := <-w.changes:
			if !open {
				return w.err
			}
			current = change.(T)
		}
	}
}

// subscribe finds a record and begins to watch it. No commit comes between the two.
func subscribe[T Record](s *Store, table Table[T], find func(*Tx) (T, error)) (T, *watcher, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	current, err := View(s, find)
	if err != nil {
		return current, nil, err
	}
	w, err := s.watchers.add(watched{table.table, current.GetName()})
	return current, w, err
}

// watchers are the streams that are open.
type watchers struct {
	mu    sync.Mutex
	open  map[watched]map[*watcher]struct{}
	count int
}

// watched is a record.
type watched struct {
	table *table
	name  string
}

// watcher is the queue of one stream.
type watcher struct {
	changes chan Record
	// err says why changes was closed.
	err error
}

func (all *watchers) add(at watched) (*watcher, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.count >= maxWatchers {
		return nil, status.Errorf(codes.ResourceExhausted, "The sandbox has reached its maximum of %d open streams. Close one before you open another.", maxWatchers)
	}
	if all.open[at] == nil {
		all.open[at] = make(map[*watcher]struct{})
	}
	w := &watcher{changes: make(chan Record, watchBuffer)}
	all.open[at][w] = struct{}{}
	all.count++
	return w, nil
}

func (all *watchers) remove(at watched, w *watcher) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if _, open := all.open[at][w]; !open {
		return
	}
	delete(all.open[at], w)
	if len(all.open[at]) == 0 {
		delete(all.open, at)
	}
	all.count--
}

// notify sends a changed record to those who watch it.
func (all *watchers) notify(t *table, r Record) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for w := range all.open[watched{t, r.GetName()}] {
		select {
		case w.changes <- r:
		default:
			// The buffer is full: drop the oldest change. The reader may receive one at the same
			// time, but nobody else sends while mu is held, so the last send does not block.
			select {
			case <-w.changes:
			default:
			}
			w.changes <- r
		}
	}
}

// end closes all streams.
func (all *watchers) end(err error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, set := range all.open {
		for w := range set {
			w.err = err
			close(w.changes)
		}
	}
	clear(all.open)
	all.count = 0
}
