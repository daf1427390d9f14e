package upstream

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
)

// TestTLSIsConfiguredForEachConnection replaces the authorities of a pool that cannot connect.
func TestTLSIsConfiguredForEachConnection(t *testing.T) {
	authority := meshtest.Issue(t, "authority", time.Hour, nil)
	mesh := meshtest.NewUpstream(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{meshtest.Issue(t, "mesh.example", time.Hour, authority).TLS()},
	})))
	var trusted atomic.Pointer[meshtest.Certificate]
	trusted.Store(meshtest.Issue(t, "other", time.Hour, nil))
	pool, err := Dial(mesh.Target, Options{TLS: func() *tls.Config {
		return &tls.Config{RootCAs: trusted.Load().Pool(), ServerName: "mesh.example"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// A write, because reads are attempted again.
	create := func(options ...grpc.CallOption) error {
		_, err := groupv1.NewGroupServiceClient(pool).CreateGroup(ctx, new(groupv1.CreateGroupRequest), options...)
		return err
	}
	if err := create(); err == nil {
		t.Error("an upstream is trusted whose authority is not")
	}
	trusted.Store(authority)
	if err := create(grpc.WaitForReady(true)); err != nil {
		t.Errorf("after the authority is trusted: %v", err)
	}
	calls := mesh.Calls()
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	if got := calls[0].Metadata.Get(":authority"); len(got) != 1 || got[0] != "mesh.example" {
		t.Errorf("the authority is %v, want the server name", got)
	}
}
