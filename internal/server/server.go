package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// maxHeaderBytes bounds the request line and headers together; net/http
	// adds 4 KiB of slack and answers 431 beyond it.
	maxHeaderBytes = 16 << 10
	// headerTimeout and bodyTimeout bound how long a request may take to
	// arrive. There is no write timeout: it would cut streams.
	headerTimeout = 10 * time.Second
	bodyTimeout   = 60 * time.Second
	idleTimeout   = 2 * time.Minute
)

// Service serves the connections of a listener. [http.Server] is one, and so is
// the gRPC server of the sandbox.
type Service interface {
	// Serve accepts connections until the listener is closed or the service is
	// shut down.
	Serve(listener net.Listener) error
	// Shutdown waits until the calls in flight have finished. If ctx is done
	// first, it returns an error, and Close is called next.
	Shutdown(ctx context.Context) error
	// Close closes all connections.
	Close() error
}

// Server runs services on their listeners and ends them together. The listeners
// are open before anything runs, so that addresses are known and a port that is
// in use is reported at once.
type Server struct {
	logger *slog.Logger
	// delay is how long the server is not ready but still accepts connections.
	delay time.Duration
	// timeout bounds the end, delay included, up to where calls are cut off.
	timeout time.Duration

	// onWait may be nil.
	onWait func(inFlight int)

	api, admin []endpoint

	// Each of these contexts is done from one step of the end on.
	stopping, draining, calls context.Context
	stop, drain               context.CancelFunc
	cutOff                    context.CancelCauseFunc
}

// endpoint is a service and the listener that it serves.
type endpoint struct {
	listener net.Listener
	service  Service
}

// New returns a server without listeners. When it is told to stop, it stays up
// for the delay, so that load balancers see in /readyz that no more requests
// should come; delay must be below [EndTimeout].
func New(logger *slog.Logger, delay time.Duration) *Server {
	s := &Server{logger: logger, delay: delay, timeout: EndTimeout - lastWords}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.draining, s.drain = context.WithCancel(context.Background())
	s.calls, s.cutOff = context.WithCancelCause(context.Background())
	return s
}

// OnWait sets a function that [Server.Run] calls at most once, if calls are still
// in flight a moment after streams were told to end. inFlight is their number; a
// stream whose client does not let it end counts too. OnWait must not be called
// after Run.
func (s *Server) OnWait(f func(inFlight int)) { s.onWait = f }

// Stopping is done once the server was told to stop and is no longer ready.
// Requests are still served.
func (s *Server) Stopping() context.Context { return s.stopping }

// Draining is done once the listeners are closed and streams must end.
func (s *Server) Draining() context.Context { return s.draining }

// Listen opens address for handler and returns where it listens. Port 0 picks
// a free port.
func (s *Server) Listen(address string, handler http.Handler) (net.Addr, error) {
	service := &httpService{stopping: s.stopping}
	service.Server = s.httpServer(service.count(handler))
	return s.ListenService(address, service)
}

// ListenService is Listen for a service that is not HTTP.
func (s *Server) ListenService(address string, service Service) (net.Addr, error) {
	return listen(&s.api, address, service)
}

// ListenAdmin is Listen for operators: handler answers until all calls on the
// other listeners have finished. Its own requests do not hold up the end.
func (s *Server) ListenAdmin(address string, handler http.Handler) (net.Addr, error) {
	return listen(&s.admin, address, s.httpServer(handler))
}

func listen(endpoints *[]endpoint, address string, service Service) (net.Addr, error) {
	listener, err := net.Listen("tcp", address)
	if operation := (*net.OpError)(nil); errors.As(err, &operation) {
		err = operation.Err // without the address, which is named below
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	*endpoints = append(*endpoints, endpoint{listener, service})
	return listener.Addr(), nil
}

func (s *Server) httpServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return s.calls },
	}
}

// Close closes the listeners of a server that was never run. After Run it does
// nothing.
func (s *Server) Close() error {
	s.stop()
	s.drain()
	s.cutOff(nil)
	return errors.Join(closeListeners(s.api), closeListeners(s.admin))
}

// closeListeners closes those listeners that are still open.
func closeListeners(endpoints []endpoint) error {
	var errs []error
	for _, e := range endpoints {
		if err := e.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
