package gateway_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"

	"github.com/meshtrade/mesh-gateway/gateway"
)

// spoilingPool is a buffer pool that overwrites buffers as they come back, so that the use of one
// shows at once and not only when another call gets it.
type spoilingPool struct {
	mem.BufferPool
	spoilt atomic.Int64
}

func (p *spoilingPool) Put(buffer *[]byte) {
	all := (*buffer)[:cap(*buffer)]
	for i := range all {
		all[i] = 0xff
	}
	p.spoilt.Add(1)
	p.BufferPool.Put(buffer)
}

// TestRepliesAreReleasedAfterTheirLastUse sends requests at the same time whose replies are in
// buffers of grpc-go. The answer from a buffer that was released would be spoilt.
func TestRepliesAreReleasedAfterTheirLastUse(t *testing.T) {
	for _, test := range []struct {
		name     string
		accounts int
	}{{"in one buffer", 20}, {"in several buffers and pieces", 500}} {
		t.Run(test.name, func(t *testing.T) {
			pool := &spoilingPool{BufferPool: mem.DefaultBufferPool()}
			conn, err := grpc.NewClient(listOf(t, test.accounts, nil).Target,
				grpc.WithTransportCredentials(insecure.NewCredentials()), experimental.WithBufferPool(pool))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			handler, err := gateway.New(conn)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(handler)
			t.Cleanup(server.Close)

			get := func() []byte {
				response, err := http.Get(server.URL + "/v1/accounts")
				if err != nil {
					t.Error(err)
					return nil
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				if err != nil || response.StatusCode != http.StatusOK {
					t.Errorf("%s, %v: %.200s", response.Status, err, body)
				}
				return body
			}
			want := get()
			var callers sync.WaitGroup
			for range 8 {
				callers.Go(func() {
					for range 20 {
						if got := get(); !bytes.Equal(got, want) {
							t.Errorf("%d bytes, want %d: %.200s", len(got), len(want), got)
							return
						}
					}
				})
			}
			callers.Wait()
			if pool.spoilt.Load() == 0 {
				t.Error("no buffer was released")
			}
		})
	}
}
