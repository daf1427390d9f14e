package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/server"
)

// listenError says what to pass in place of an address that is in use.
func listenError(flag, address string, err error) error {
	host, _, splitErr := net.SplitHostPort(address)
	if !inUse(err) || splitErr != nil {
		return err
	}
	return fmt.Errorf("cannot listen on %s, which is in use; pass another address, such as --%s %s for a free port",
		address, flag, net.JoinHostPort(host, "0"))
}

func inUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// newServer returns a server for a command that runs until ctx is done. If
// Ctrl-C ends it while calls are in flight, it says on stderr what it waits for.
func newServer(ctx context.Context, stderr io.Writer, logger *slog.Logger, delay time.Duration) *server.Server {
	s := server.New(logger, delay)
	s.OnWait(func(inFlight int) {
		if !errors.Is(context.Cause(ctx), server.ErrInterrupted) {
			return
		}
		requests := "1 request"
		if inFlight != 1 {
			requests = fmt.Sprintf("%d requests", inFlight)
		}
		fmt.Fprintf(stderr, "finishing %s; press Ctrl-C again to quit\n", requests)
	})
	return s
}
