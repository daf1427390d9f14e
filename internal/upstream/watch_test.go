package upstream_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/meshtrade/mesh-gateway/internal/upstream"
)

// TestWatch starts, stops and starts a server again.
func TestWatch(t *testing.T) {
	serve := func(address string) (string, *grpc.Server) {
		t.Helper()
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		go func() { _ = server.Serve(listener) }() // until it is stopped
		t.Cleanup(server.Stop)
		return listener.Addr().String(), server
	}
	target, server := serve("127.0.0.1:0")
	pool, err := upstream.Dial(target, upstream.Options{Plaintext: true, Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ctx, cancel := context.WithCancel(t.Context())
	changes, ended := make(chan bool), make(chan struct{})
	go func() {
		defer close(ended)
		pool.Watch(ctx, func(reachable bool) { changes <- reachable })
	}()
	want := func(want bool) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Fatalf("reachable is %t, want %t", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("no change was reported")
		}
	}
	pool.Connect()
	want(true)
	server.Stop()
	pool.Connect() // a connection that is lost is idle until it is used
	// Each connection may be idle once more.
	reconnect := time.NewTicker(10 * time.Millisecond)
	defer reconnect.Stop()
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-reconnect.C:
				pool.Connect()
			case <-stop:
				return
			}
		}
	}()
	want(false)
	serve(target)
	want(true)
	close(stop)
	cancel()
	<-ended
}
