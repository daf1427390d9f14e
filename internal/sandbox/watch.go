package sandbox

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// watchBuffer is how many changes a reader may be behind before it misses
	// the oldest of them.
	watchBuffer = 256
	// maxWatchers bounds the streams that are open at one time.
	maxWatchers = 10_000
)

// watchers are the streams that are open, by the name of what they watch. The
// store's lock guards them.
type watchers map[string]map[*watcher]struct{}

// watcher is one stream's queue. What fills it never waits: a reader that is
// too slow holds nobody up. It is not let go either, but misses states in
// between; it always gets the last.
type watcher struct {
	changes chan record
	// err says why changes was closed.
	err error
}

func (w watchers) count() (n int) {
	for _, set := range w {
		n += len(set)
	}
	return n
}

func (w watchers) add(name string) (*watcher, error) {
	if w.count() >= maxWatchers {
		return nil, status.Errorf(codes.ResourceExhausted, "The sandbox has reached its maximum of %d open streams. Close one before you open another.", maxWatchers)
	}
	if w[name] == nil {
		w[name] = make(map[*watcher]struct{})
	}
	one := &watcher{changes: make(chan record, watchBuffer)}
	w[name][one] = struct{}{}
	return one, nil
}

func (w watchers) remove(name string, one *watcher, err error) {
	if _, open := w[name][one]; !open {
		return
	}
	delete(w[name], one)
	if len(w[name]) == 0 {
		delete(w, name)
	}
	one.err = err
	close(one.changes)
}

// notify sends a changed record to all its watchers.
func (w watchers) notify(r record) {
	for one := range w[r.GetName()] {
		select {
		case one.changes <- r:
		default:
			// The buffer is full: drop the oldest change. The reader may receive one at the
			// same time, but only this goroutine sends, so the last send does not block.
			select {
			case <-one.changes:
			default:
			}
			one.changes <- r
		}
	}
}

// end closes all streams.
func (w watchers) end(err error) {
	for name, set := range w {
		for one := range set {
			w.remove(name, one, err)
		}
	}
}

// watch sends what find returns and then each change of it, until last says
// that none will follow, or the client leaves.
func watch[T record](ctx context.Context, s *store, find func() (T, error), last func(T) bool, send func(T) error) error {
	s.mu.Lock()
	current, err := find()
	if err != nil {
		s.mu.Unlock()
		return err
	}
	one, err := s.watchers.add(current.GetName())
	s.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers.remove(current.GetName(), one, nil)
	}()
	for {
		if err := send(current); err != nil || last(current) {
			return err
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case change, open := <-one.changes:
			if !open {
				return one.err
			}
			current = change.(T)
		}
	}
}
