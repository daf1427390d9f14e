package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
)

// startUpstream serves the upstream until the test ends.
func startUpstream(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serveUpstream(listener)
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

func TestEachPeerAnswersEachRowAsTheUpstreamDoes(t *testing.T) {
	upstream := startUpstream(t)
	for _, peer := range newPeers() {
		if peer.name == meshGateway {
			continue // it is another program
		}
		serve, err := newRole(peer.name, upstream)
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = serve(listener)
		}()
		t.Cleanup(func() {
			_ = listener.Close()
			<-done
		})
		p := &process{address: listener.Addr().String()}
		for _, r := range newRows() {
			t.Run(peer.name+"/"+r.name, func(t *testing.T) {
				size, err := check(t.Context(), p, r)
				if peer.lacks(r) != "" {
					if err == nil {
						t.Fatal("it answers, so it can be measured")
					}
					return
				}
				if err != nil || size == 0 {
					t.Fatalf("%d bytes, %v", size, err)
				}
			})
		}
	}
}

func TestCheckNoticesAnotherAnswer(t *testing.T) {
	row := newRows()[0]
	json, err := row.json()
	if err != nil {
		t.Fatal(err)
	}
	right := string(json[0])
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string // in the error; "" for none
	}{
		{"the answer", 200, right, ""},
		{"with other whitespace", 200, " " + strings.Replace(right, ":", ": ", 1) + "\n", ""},
		{"of another status", 500, right, "status 500"},
		{"with another value", 200, strings.Replace(right, "BUY", "SELL", 1), "differs"},
		{"twice", 200, right + right, "differs"},
		{"cut short", 200, right[:20], "unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			}))
			defer server.Close()
			_, err := check(t.Context(), &process{address: server.Listener.Addr().String()}, row)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestUpstreamRefusesWhatIsNotTheCallOfTheRow(t *testing.T) {
	conn, err := dial(startUpstream(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	row := newRows()[0]
	for _, test := range []struct {
		name, key, group, method string
		request                  proto.Message
		want                     codes.Code
	}{
		{"the call", apiKey, row.group, row.method, row.request, codes.OK},
		{"without the key", "", row.group, row.method, row.request, codes.Unauthenticated},
		{"of no row", apiKey, "groups/none", row.method, row.request, codes.NotFound},
		{"of another method", apiKey, row.group, newRows()[1].method, row.request, codes.Unimplemented},
		{"with another request", apiKey, row.group, row.method, &limitorderv1.GetLimitOrderRequest{Name: "limit_orders/other"}, codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, err := proto.Marshal(test.request)
			if err != nil {
				t.Fatal(err)
			}
			ctx := metadata.AppendToOutgoingContext(context.Background(), apiKeyMetadata, test.key, groupMetadata, test.group)
			var reply []byte
			err = conn.Invoke(ctx, test.method, request, &reply, grpc.ForceCodecV2(bytesCodec{}))
			if status.Code(err) != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestUnwrapResultsTakesMessagesOutOfTheirWrapper(t *testing.T) {
	values, err := decodeAll([]byte(`{"result":{"a":1}} {"a":2} {"result":3,"b":4}`))
	if err != nil {
		t.Fatal(err)
	}
	want, err := decodeAll([]byte(`{"a":1} {"a":2} {"result":3,"b":4}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := unwrapResults(values); !equalJSON(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
