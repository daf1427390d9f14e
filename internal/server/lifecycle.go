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
	// ShutdownTimeout is the maximum duration of a shutdown, until [Server.Run] returns.
	ShutdownTimeout = 30 * time.Second
	// cutOffTime is the part of ShutdownTimeout that remains after calls are cut off. In this time
	// they can still respond with what is known about the outcome.
	cutOffTime = time.Second
	// waitNotice is how long calls may still run after streams were ended, before the function
	// of [Server.OnWait] is called.
	waitNotice = 500 * time.Millisecond
	// shutdownRound is how often connections are told that they must end.
	shutdownRound = time.Second
)

// ErrInterrupted is the cause of a context that is cancelled by an interrupt from a terminal.
// [Server.Run] then skips the delay, since there is no load balancer to wait for.
var ErrInterrupted = errors.New("interrupted")

// errStopping returns the error for requests that arrive during the shutdown.
func errStopping() error {
	return apierror.New(codes.Unavailable, apierror.Draining, "The gateway is shutting down. Nothing was sent to the Mesh API. Connect again to reach another instance.")
}

// Run serves until ctx is done or a listener fails, and then shuts down in this order:
//
//  1. Stopping is done. For the delay, requests are still accepted and served.
//  2. All listeners except the admin ones are closed.
//  3. Draining is done, which ends streams.
//  4. Calls in flight finish.
//  5. The admin listeners are closed.
//
// Calls that have not finished within [ShutdownTimeout] are cut off, and Run returns an error that
// says so. After Run has returned, the upstream connection and other dependencies of the calls can
// be closed.
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
	// Listeners are closed here instead of in Shutdown, so that all of them are closed before the
	// first stream ends. A client that reconnects must not reach this server again.
	err = errors.Join(err, closeListeners(s.api))
	api.Wait()
	s.drain()
	err = errors.Join(err, s.finish(end), closeListeners(s.admin))
	admin.Wait()
	s.finishAdmin()
	s.cutOff(nil)
	return err
}

// serve starts each endpoint. If one stops before its listener was closed, serve sends its error to
// failed.
func serve(running *sync.WaitGroup, endpoints []endpoint, failed chan<- error) {
	for _, e := range endpoints {
		running.Go(func() {
			if err := e.service.Serve(e.listener); err != nil && !errors.Is(err, net.ErrClosed) {
				failed <- fmt.Errorf("serving on %s: %w", e.listener.Addr(), err)
			}
		})
	}
}

// wait waits for the delay. If a listener fails meanwhile, wait returns its error immediately.
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

// finish waits for calls in flight, and cuts off those that have not finished when end is done.
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
	// Calls that are cut off fail as if they had exceeded their deadline, so that the error of a
	// write says that it may have been carried out.
	s.cutOff(context.DeadlineExceeded)
	last, cancel := context.WithTimeout(context.WithoutCancel(end), cutOffTime)
	defer cancel()
	_ = s.shutdown(last) // err already reports what was cut off
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

// shutdown shuts down all services except the admin ones, in parallel.
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

// finishAdmin shuts down the admin services. Their requests, such as profiles, may be cut off.
func (s *Server) finishAdmin() {
	ctx, cancel := context.WithTimeout(context.Background(), cutOffTime)
	defer cancel()
	for _, e := range s.admin {
		if e.service.Shutdown(ctx) != nil {
			_ = e.service.Close()
		}
	}
}

// httpService is an HTTP server that counts its running handlers, because [http.Server.Shutdown]
// does not wait for hijacked connections, such as WebSockets.
type httpService struct {
	*http.Server

	stopping context.Context
	tls      bool

	mu      sync.Mutex
	running int
	// idle is not nil once handlers must not start any more, and closed once none is running.
	idle chan struct{}
}

// count counts the running handlers. It rejects requests that arrive while the server waits for the
// last of them. Their connections were idle and are already closed.
func (s *httpService) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopping.Err() != nil {
			// This connection could be closed while the client sends its next request. For HTTP/2,
			// net/http sends GOAWAY instead of the header, and finishes the open streams.
			w.Header().Set("Connection", "close")
		}
		if !s.enter() {
			apierror.Write(w, errStopping())
			return
		}
		defer s.leave()
		next.ServeHTTP(w, r)
	})
}

// Serve serves TLS if that is the transport.
func (s *httpService) Serve(listener net.Listener) error {
	if s.tls {
		return s.ServeTLS(listener, "", "")
	}
	return s.Server.Serve(listener)
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

// Shutdown also waits for handlers of hijacked connections.
func (s *httpService) Shutdown(ctx context.Context) error {
	err := s.shutdownConnections(ctx)
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

// shutdownConnections is [http.Server.Shutdown], again and again: that tells the HTTP/2 connections of
// its time once that they must end. A connection whose TLS handshake ends later, and that has no
// request, would be waited for until ctx is done.
func (s *httpService) shutdownConnections(ctx context.Context) error {
	for {
		round, cancel := context.WithTimeout(ctx, shutdownRound)
		err := s.Server.Shutdown(round)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}
