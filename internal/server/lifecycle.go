package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	// EndTimeout bounds the end of a server, from when it is told to stop until
	// [Server.Run] returns.
	EndTimeout = 30 * time.Second
	// lastWords is the part of EndTimeout that is left to calls that are cut off:
	// they can still tell their clients what is known about the outcome.
	lastWords = time.Second
	// waitNotice is how long calls may still run, once streams were told to end,
	// before the function of [Server.OnWait] is called.
	waitNotice = 500 * time.Millisecond
)

// ErrInterrupted is the cause of a context that ends because somebody at a
// terminal wants the program to end. [Server.Run] skips the delay then: there is
// no load balancer to wait for.
var ErrInterrupted = errors.New("interrupted")

// errStopping answers what arrives when the server is about to stop.
func errStopping() error {
	return apierror.New(codes.Unavailable, apierror.Draining, "The gateway is about to stop. Connect again; another will answer.")
}

// Run serves until ctx is done or a listener fails, and then ends everything in
// this order:
//
//  1. Stopping is done. For the delay, requests are still accepted and served.
//  2. All listeners but the admin ones are closed.
//  3. Draining is done, which ends streams.
//  4. Calls in flight finish.
//  5. The admin listeners are closed.
//
// After [EndTimeout] what is still running is cut off, and Run returns an error
// that says so. What the calls depend on, such as the upstream connection, can be
// closed when Run has returned.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, len(s.api)+len(s.admin))
	var api, admin sync.WaitGroup
	serve(&api, s.api, failed)
	serve(&admin, s.admin, failed)

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	s.stop()
	if err == nil && !errors.Is(context.Cause(ctx), ErrInterrupted) {
		err = s.wait(end, failed)
	}
	// Listeners are closed here and not left to Shutdown, so that all of them are
	// closed before the first stream ends: a client that connects again must not
	// come back to this server.
	err = errors.Join(err, closeListeners(s.api))
	api.Wait()
	s.drain()
	err = errors.Join(err, s.finish(end), closeListeners(s.admin))
	admin.Wait()
	s.finishAdmin()
	s.cutOff(nil)
	return err
}

// serve starts each endpoint. An endpoint that ends before its listener was
// closed is reported to failed.
func serve(running *sync.WaitGroup, endpoints []endpoint, failed chan<- error) {
	for _, e := range endpoints {
		running.Go(func() {
			if err := e.service.Serve(e.listener); err != nil && !errors.Is(err, net.ErrClosed) {
				failed <- fmt.Errorf("serving on %s: %w", e.listener.Addr(), err)
			}
		})
	}
}

// wait waits for the delay to pass. It returns early with the error of a
// listener that fails meanwhile.
func (s *Server) wait(end context.Context, failed <-chan error) error {
	delay := time.NewTimer(s.delay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-end.Done():
	case err := <-failed:
		return err
	}
	return nil
}

// finish waits for calls in flight, and cuts off those that have not finished
// when end is done.
func (s *Server) finish(end context.Context) error {
	finished := make(chan struct{})
	var notice sync.WaitGroup
	notice.Go(func() { s.notifyOfWait(finished) })
	err := s.shutdown(end)
	close(finished)
	notice.Wait()
	if err == nil {
		return nil
	}
	// A call that is cut off is answered as one that ran into its deadline, which
	// tells a client that a write may have been carried out.
	s.cutOff(context.DeadlineExceeded)
	last, cancel := context.WithTimeout(context.WithoutCancel(end), lastWords)
	defer cancel()
	_ = s.shutdown(last) // what was cut off is known already
	for _, e := range s.api {
		err = errors.Join(err, e.service.Close())
	}
	return err
}

// notifyOfWait calls the function of OnWait, unless all calls finish soon.
func (s *Server) notifyOfWait(finished <-chan struct{}) {
	if s.onWait == nil {
		return
	}
	soon := time.NewTimer(waitNotice)
	defer soon.Stop()
	select {
	case <-finished:
		return
	case <-soon.C:
	}
	inFlight := 0
	for _, e := range s.api {
		if service, ok := e.service.(counter); ok {
			inFlight += service.InFlight()
		}
	}
	if inFlight > 0 {
		s.onWait(inFlight)
	}
}

// counter is a service that knows how many calls are in flight.
type counter interface{ InFlight() int }

// shutdown shuts all services but the admin ones down, side by side.
func (s *Server) shutdown(ctx context.Context) error {
	var group errgroup.Group
	for _, e := range s.api {
		group.Go(func() error {
			if err := e.service.Shutdown(ctx); err != nil {
				return fmt.Errorf("calls on %s did not finish in time and were cut off: %w", e.listener.Addr(), err)
			}
			return nil
		})
	}
	return group.Wait()
}

// finishAdmin ends the admin services. Cutting off a profile harms nobody.
func (s *Server) finishAdmin() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	for _, e := range s.admin {
		if e.service.Shutdown(ctx) != nil {
			_ = e.service.Close()
		}
	}
}

// httpService is an HTTP server that knows how many of its handlers are running.
// [http.Server.Shutdown] waits for connections, and forgets those that a handler
// has hijacked, as every WebSocket does.
type httpService struct {
	*http.Server

	stopping context.Context

	mu      sync.Mutex
	running int
	// idle is set once no more handlers may start, and closed once none is running.
	idle chan struct{}
}

// count counts the handlers that are running. A request that comes when the
// server waits for the last of them is refused; its connection was idle and is
// closed already.
func (s *httpService) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopping.Err() != nil {
			// The next request belongs on a connection to another server. This one
			// could be closed just as the request is sent.
			w.Header().Set("Connection", "close")
		}
		if !s.enter() {
			apierror.Write(w, r, errStopping())
			return
		}
		defer s.leave()
		next.ServeHTTP(w, r)
	})
}

func (s *httpService) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		return false
	}
	s.running++
	return true
}

func (s *httpService) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if s.idle != nil && s.running == 0 {
		close(s.idle)
	}
}

// InFlight returns the number of handlers that are running.
func (s *httpService) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// Shutdown waits for handlers on hijacked connections too.
func (s *httpService) Shutdown(ctx context.Context) error {
	err := s.Server.Shutdown(ctx)
	s.mu.Lock()
	if s.idle == nil {
		s.idle = make(chan struct{})
		if s.running == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.idle:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == 0 {
		return err
	}
	return fmt.Errorf("%d in flight: %w", s.running, ctx.Err())
}
