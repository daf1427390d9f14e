package gateway_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/meshtrade/mesh-gateway/gateway"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
)

// groups is an upstream with one group.
type groups struct {
	groupv1.UnimplementedGroupServiceServer
}

func (groups) GetGroup(_ context.Context, request *groupv1.GetGroupRequest) (*groupv1.Group, error) {
	return &groupv1.Group{Name: request.GetName(), DisplayName: "Harbour Brokers"}, nil
}

// dialExample connects to the upstream of the examples, which runs in this process.
func dialExample() (conn *grpc.ClientConn, stop func()) {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	groupv1.RegisterGroupServiceServer(server, groups{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///example", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		log.Fatal(err)
	}
	return conn, func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			log.Fatal(err)
		}
	}
}

func show(response *http.Response, err error) {
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.StatusCode, strings.TrimSpace(string(body)))
}

func ExampleNew() {
	conn, stop := dialExample() // a real program: grpc.NewClient with TLS
	defer stop()
	handler, err := gateway.New(conn)
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()

	show(http.Get(server.URL + "/v1/groups/01ARZ3NDEKTSV4RRFFQ69G5FAV"))
	// Output: 200 {"name":"groups/01ARZ3NDEKTSV4RRFFQ69G5FAV","displayName":"Harbour Brokers"}
}

// This gateway serves reads only.
func ExampleWithMethodMiddleware() {
	conn, stop := dialExample()
	defer stop()
	refuse := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			gateway.WriteError(w, r, status.Error(codes.PermissionDenied, "This gateway serves reads only."))
		})
	}
	handler, err := gateway.New(conn, gateway.WithMethodMiddleware(func(m gateway.Method) []func(http.Handler) http.Handler {
		if m.Writes() {
			return []func(http.Handler) http.Handler{refuse}
		}
		return nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()

	show(http.Get(server.URL + "/v1/groups/01ARZ3NDEKTSV4RRFFQ69G5FAV?fields=displayName"))
	show(http.Post(server.URL+"/v1/groups", "application/json", strings.NewReader("{}")))
	// Output:
	// 200 {"displayName":"Harbour Brokers"}
	// 403 {"code":7,"message":"This gateway serves reads only."}
}

// Middleware around the whole handler can authenticate callers in its own way and call
// the upstream with a key of its own.
func ExampleWriteError() {
	conn, stop := dialExample()
	defer stop()
	api, err := gateway.New(conn)
	if err != nil {
		log.Fatal(err)
	}
	signedIn := func(r *http.Request) bool { _, err := r.Cookie("session"); return err == nil }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !signedIn(r) {
			gateway.WriteError(w, r, status.Error(codes.Unauthenticated, "Sign in first."))
			return
		}
		r.Header.Set("X-Api-Key", "the key of this program")
		api.ServeHTTP(w, r)
	}))
	defer server.Close()

	show(http.Get(server.URL + "/v1/groups/01ARZ3NDEKTSV4RRFFQ69G5FAV"))
	// Output: 401 {"code":16,"message":"Sign in first."}
}
