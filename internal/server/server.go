package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
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
	// drainTimeout bounds how long requests in flight may take to end.
	drainTimeout = 30 * time.Second
)

// Server serves handlers on listeners that are already open, so that the
// address is known, and its failure reported, before anything runs.
type Server struct {
	logger *slog.Logger
	bounds []bound
}

type bound struct {
	listener net.Listener
	server   *http.Server
}

// New returns a server that serves nothing yet.
func New(logger *slog.Logger) *Server { return &Server{logger: logger} }

// Listen opens address for handler and returns where it listens. Port 0 picks
// a free port.
func (s *Server) Listen(address string, handler http.Handler) (net.Addr, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	s.bounds = append(s.bounds, bound{listener, &http.Server{
		Handler:           handler,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}})
	return listener.Addr(), nil
}

// Close closes the listeners of a server that was never run.
func (s *Server) Close() error {
	var errs []error
	for _, b := range s.bounds {
		errs = append(errs, b.listener.Close())
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends, then lets requests in flight finish within the
// drain timeout.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, b := range s.bounds {
		group.Go(func() error {
			if err := b.server.Serve(b.listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
			defer cancel()
			if err := b.server.Shutdown(drain); err != nil {
				return errors.Join(fmt.Errorf("requests in flight on %s were cut off: %w", b.listener.Addr(), err), b.server.Close())
			}
			return nil
		})
	}
	return group.Wait()
}
