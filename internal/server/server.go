package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/middleware"
)

const (
	// maxHeaderBytes is the maximum size of the request line and the headers. net/http allows 4 KiB
	// more, and then responds with 431.
	maxHeaderBytes = 16 << 10
	// headerTimeout and bodyTimeout limit how long the client may take to send a request.
	headerTimeout = 10 * time.Second
	bodyTimeout   = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	// writeTimeout limits how long a client may take to read the next part of a response.
	// http.Server.WriteTimeout would limit the whole response, and so abort streams.
	writeTimeout = 30 * time.Second
)

// Service serves the connections of a listener. It is implemented by [http.Server] and by the gRPC
// server of the sandbox.
type Service interface {
	// Serve accepts connections until the listener is closed or the service is
	// shut down.
	Serve(listener net.Listener) error
	// Shutdown waits until the calls in flight have finished. If ctx is done first, it returns an
	// error. The caller then calls Close.
	Shutdown(ctx context.Context) error
	// Close closes all connections.
	Close() error
}

// Server runs services on their listeners and shuts them down together. Listeners are opened before
// [Server.Run], so that their addresses are known and a port that is in use is reported early.
type Server struct {
	logger *slog.Logger
	// delay is how long the server still accepts connections after it has stopped being ready.
	delay time.Duration
	// timeout is the time from the start of the shutdown, including the delay, until calls are cut
	// off.
	timeout time.Duration
	// writeTimeout is the limit of [middleware.WriteTimeout].
	writeTimeout time.Duration

	// onWait may be nil.
	onWait func(inFlight int)
	// connections may be nil.
	connections *Connections
	transport   Transport

	api, admin []endpoint

	// The contexts are done one after the other during the shutdown.
	stopping, draining, calls context.Context
	stop, drain               context.CancelFunc
	cutOff                    context.CancelCauseFunc
}

// endpoint is a service and its listener.
type endpoint struct {
	listener net.Listener
	service  Service
}

// New returns a server without listeners. During a shutdown it accepts connections for the delay,
// so that load balancers notice in /readyz that they must not send more requests. The delay must be
// shorter than [ShutdownTimeout].
func New(logger *slog.Logger, delay time.Duration) *Server {
	s := &Server{logger: logger, delay: delay, timeout: ShutdownTimeout - cutOffTime, writeTimeout: writeTimeout}
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

// LimitConnections limits the connections of the listeners that are opened after it, except the admin
// ones.
func (s *Server) LimitConnections(c *Connections) { s.connections = c }

// Stopping returns a context that is done once the shutdown has begun and the server is not ready
// any more. Requests are still served.
func (s *Server) Stopping() context.Context { return s.stopping }

// Draining returns a context that is done once the listeners are closed and streams must end.
func (s *Server) Draining() context.Context { return s.draining }

// Listen opens a listener on the TCP address for handler and returns its address. Port 0 selects a
// free port.
func (s *Server) Listen(address string, handler http.Handler) (net.Addr, error) {
	service := &httpService{stopping: s.stopping, tls: s.transport.TLS != nil}
	service.Server = s.httpServer(service.count(handler))
	s.transport.apply(service.Server)
	return s.ListenService(address, service)
}

// ListenService is Listen for a service that is not HTTP.
func (s *Server) ListenService(address string, service Service) (net.Addr, error) {
	return listen(&s.api, address, service, s.connections)
}

// ListenAdmin is Listen for operators. The handler is served until all calls on the other listeners
// have finished. Its own requests do not delay the shutdown.
func (s *Server) ListenAdmin(address string, handler http.Handler) (net.Addr, error) {
	return listen(&s.admin, address, s.httpServer(handler), nil)
}

func listen(endpoints *[]endpoint, address string, service Service, connections *Connections) (net.Addr, error) {
	listener, err := net.Listen("tcp", address)
	if operation := (*net.OpError)(nil); errors.As(err, &operation) {
		err = operation.Err // without the address, which is named below
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	if connections != nil {
		listener = connections.Limit(listener)
	}
	*endpoints = append(*endpoints, endpoint{listener, service})
	return listener.Addr(), nil
}

func (s *Server) httpServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           middleware.WriteTimeout(s.writeTimeout)(handler),
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return s.calls },
	}
}

// Close closes the listeners of a server that was not run. After [Server.Run] it does nothing.
func (s *Server) Close() error {
	s.stop()
	s.drain()
	s.cutOff(nil)
	return errors.Join(closeListeners(s.api), closeListeners(s.admin))
}

// closeListeners closes the listeners that are still open.
func closeListeners(endpoints []endpoint) error {
	var errs []error
	for _, e := range endpoints {
		if err := e.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
