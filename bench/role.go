package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime/debug"
	"strings"
)

// The processes that this program starts of itself. Each listens on a free port of
// loopback, says where in one line on its standard output, and ends with its standard
// input, which closes when the program that started it is gone.
const (
	upstreamRole = "upstream"
	stockRole    = "stock"
	vanguardRole = "vanguard"
	floorRole    = "floor"

	// chainSuffix on the name of a peer puts the middleware of mesh-gateway in front of it.
	chainSuffix = "+chain"
)

// readyLine is what a role prints once it listens: where it serves, and where its
// allocations can be read.
const readyLine = "ready %s %s\n"

// runRole plays a role until standard input ends.
func runRole(role, upstream string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	side, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	serve, err := newRole(role, upstream)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- serve(listener) }()
	go func() { failed <- serveHTTP(side, http.HandlerFunc(pprof.Index)) }()
	// What preparing took is not what serving takes.
	debug.FreeOSMemory()
	fmt.Printf(readyLine, listener.Addr(), side.Addr())

	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}

// newRole returns what serves the role.
func newRole(role, upstream string) (func(net.Listener) error, error) {
	var handler http.Handler
	var err error
	name, chained := strings.CutSuffix(role, chainSuffix)
	switch name {
	case upstreamRole:
		return serveUpstream, nil
	case collectorRole:
		handler = newCollector()
	case stockRole:
		handler, err = newStock(upstream)
	case vanguardRole:
		handler, err = newVanguard(upstream)
	case floorRole:
		handler, err = newFloor(upstream)
	default:
		err = fmt.Errorf("there is no role %q", role)
	}
	if err == nil && chained {
		handler, err = withChain(handler)
	}
	return func(listener net.Listener) error { return serveHTTP(listener, handler) }, err
}

func serveHTTP(listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler} //nolint:gosec // nobody but this program calls it
	return server.Serve(listener)
}
