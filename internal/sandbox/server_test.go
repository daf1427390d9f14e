package sandbox_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// standing is a sandbox whose clock stands still.
type standing struct {
	mesh
	sandbox *sandbox.Sandbox
}

func newStanding(t *testing.T) standing {
	t.Helper()
	s, err := sandbox.New(sandbox.WithClock(sandbox.ClockManual), sandbox.WithSeed(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeSandbox(t, s) })
	m := mesh{s.Conn(), make(map[string]sandbox.Credential)}
	for _, credential := range sandbox.Seeded() {
		m.seeded[credential.DisplayName] = credential
	}
	return standing{m, s}
}

// open starts to open the account that is not, and returns the transaction.
func (m standing) open(t *testing.T) string {
	t.Helper()
	answer, err := accountv1.NewAccountServiceClient(m).OpenAccount(m.as(t, "Broker Admin"), &accountv1.OpenAccountRequest{Name: "accounts/00000000000000000000000005"})
	wantCode(t, err, codes.OK)
	return answer.GetLedgerTransaction()
}

// TestServe calls the sandbox over TCP, as an SDK does.
func TestServe(t *testing.T) {
	m := newStanding(t)
	_, conn := serve(t, m.sandbox)

	t.Run("one store with the connection in the process", func(t *testing.T) {
		_, err := groupv1.NewGroupServiceClient(conn).CreateGroup(m.as(t, "Broker Admin"), &groupv1.CreateGroupRequest{
			Group: &groupv1.Group{Owner: m.seeded["Broker Admin"].Group, DisplayName: "Over TCP"}})
		wantCode(t, err, codes.OK)
		found, err := groupv1.NewGroupServiceClient(m).SearchGroups(m.as(t, "Broker Admin"), &groupv1.SearchGroupsRequest{DisplayName: "Over TCP"})
		wantCode(t, err, codes.OK)
		if len(found.GetGroups()) != 1 {
			t.Error("the group is not there")
		}
	})
	t.Run("health needs no key", func(t *testing.T) {
		answer, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		wantCode(t, err, codes.OK)
		if answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Error(answer.GetStatus())
		}
	})
	t.Run("reflection lists the services", func(t *testing.T) {
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		wantCode(t, err, codes.OK)
		if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		wantCode(t, err, codes.OK)
		var names []string
		for _, service := range answer.GetListServicesResponse().GetService() {
			names = append(names, service.GetName())
		}
		if !slices.Contains(names, accountv1.AccountService_ServiceDesc.ServiceName) {
			t.Errorf("%v", names)
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	})
	t.Run("reflection describes the older API-user service", func(t *testing.T) {
		const older = "meshtrade.iam.api_user.v1.ApiUserService"
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		wantCode(t, err, codes.OK)
		ask := func(request *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
			wantCode(t, stream.Send(request), codes.OK)
			answer, err := stream.Recv()
			wantCode(t, err, codes.OK)
			return answer
		}
		list := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		if !slices.ContainsFunc(list.GetListServicesResponse().GetService(), func(s *reflectionv1.ServiceResponse) bool { return s.GetName() == older }) {
			t.Error("it is not listed")
		}
		// The first file is the one asked for. All that it imports follows.
		files := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: older}}).GetFileDescriptorResponse().GetFileDescriptorProto()
		set := new(descriptorpb.FileDescriptorSet)
		for _, content := range files {
			file := new(descriptorpb.FileDescriptorProto)
			if err := proto.Unmarshal(content, file); err != nil {
				t.Fatal(err)
			}
			set.File = append(set.File, file)
		}
		known, err := protodesc.NewFiles(set)
		if err != nil {
			t.Fatal(err)
		}
		found, err := known.FindDescriptorByName(older)
		if err != nil {
			t.Fatal(err)
		}
		var methods []string
		for i := range found.(protoreflect.ServiceDescriptor).Methods().Len() {
			methods = append(methods, string(found.(protoreflect.ServiceDescriptor).Methods().Get(i).Name()))
		}
		slices.Sort(methods)
		if diff := cmp.Diff([]string{
			"ActivateApiUser", "AssignRolesToAPIUser", "CreateApiUser", "DeactivateApiUser", "GetApiUser", "GetApiUserByKeyHash",
			"ListApiUsers", "RevokeRolesFromAPIUser", "SearchApiUsers",
		}, methods); diff != "" {
			t.Error(diff)
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	})
	t.Run("the methods of the older API-user service", func(t *testing.T) {
		for _, test := range []struct {
			method string
			want   codes.Code
		}{
			{"CreateApiUser", codes.InvalidArgument},
			{"GetApiUser", codes.InvalidArgument},
			{"GetApiUserByKeyHash", codes.InvalidArgument},
			{"ListApiUsers", codes.OK},
			{"SearchApiUsers", codes.OK},
			{"ActivateApiUser", codes.InvalidArgument},
			{"DeactivateApiUser", codes.InvalidArgument},
			{"AssignRolesToAPIUser", codes.InvalidArgument},
			{"RevokeRolesFromAPIUser", codes.InvalidArgument},
			{"AssignRolesToApiUser", codes.Unimplemented},
			{"RevokeRolesFromApiUser", codes.Unimplemented},
			{"ListAPIUsers", codes.Unimplemented},
		} {
			t.Run(test.method, func(t *testing.T) {
				err := conn.Invoke(m.as(t, "Broker Admin"), "/meshtrade.iam.api_user.v1.ApiUserService/"+test.method, new(emptypb.Empty), new(emptypb.Empty))
				wantCode(t, err, test.want)
			})
		}
	})
	t.Run("the older name of the API-user service", func(t *testing.T) {
		const older = "/meshtrade.iam.api_user.v1.ApiUserService/"
		answer := new(apiuserv1.SearchAPIUsersResponse)
		err := conn.Invoke(m.as(t, "Broker Admin"), older+"SearchApiUsers", &apiuserv1.SearchAPIUsersRequest{DisplayName: "Trading"}, answer)
		wantCode(t, err, codes.OK)
		if len(answer.GetApiUsers()) != 1 {
			t.Errorf("found %v", answer.GetApiUsers())
		}
		err = conn.Invoke(m.as(t, "Broker Viewer"), older+"ActivateApiUser", &apiuserv1.ActivateAPIUserRequest{Name: m.seeded["Retired"].Name}, new(apiuserv1.APIUser))
		wantCode(t, err, codes.PermissionDenied) // the same rules hold
		err = conn.Invoke(t.Context(), older+"ListApiUsers", &apiuserv1.ListAPIUsersRequest{}, answer)
		wantCode(t, err, codes.Unauthenticated)
	})
}

// TestShutdownTellsStreams shuts the server down with streams open: one whose
// handler waits for changes, and two whose handlers wait for the client.
func TestShutdownTellsStreams(t *testing.T) {
	m := newStanding(t)
	server, conn := serve(t, m.sandbox)
	order, err := limitorderv1.NewLimitOrderServiceClient(conn).MonitorLimitOrder(m.as(t, "Broker Admin"), &limitorderv1.MonitorLimitOrderRequest{
		Identifier: &limitorderv1.MonitorLimitOrderRequest_Name{Name: "limit_orders/00000000000000000000000006"}})
	wantCode(t, err, codes.OK)
	health, err := healthv1.NewHealthClient(conn).Watch(t.Context(), new(healthv1.HealthCheckRequest))
	wantCode(t, err, codes.OK)
	reflection, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	wantCode(t, err, codes.OK)
	wantCode(t, reflection.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}), codes.OK)

	open := map[string]func() error{
		"an order":   func() error { _, err := order.Recv(); return err },
		"health":     func() error { _, err := health.Recv(); return err },
		"reflection": func() error { _, err := reflection.Recv(); return err },
	}
	for _, receive := range open {
		wantCode(t, receive(), codes.OK)
	}
	if err := server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, receive := range open {
		t.Run(name, func(t *testing.T) { wantCode(t, receive(), codes.Unavailable) })
	}
	// The connection in the process is another server's.
	_, err = groupv1.NewGroupServiceClient(m).ListGroups(m.as(t, "Broker Admin"), new(groupv1.ListGroupsRequest))
	wantCode(t, err, codes.OK)
}

// TestShutdownIsBounded shuts the server down with a call that takes longer than
// there is time.
func TestShutdownIsBounded(t *testing.T) {
	m := newStanding(t)
	server, conn := serve(t, m.sandbox)
	slow, err := conn.NewStream(metadata.AppendToOutgoingContext(m.as(t, "Broker Admin"), "x-sandbox-fault", "slow=1m"),
		new(grpc.StreamDesc), groupv1.GroupService_ListGroups_FullMethodName)
	wantCode(t, err, codes.OK)
	wantCode(t, slow.SendMsg(new(groupv1.ListGroupsRequest)), codes.OK)
	wantCode(t, slow.CloseSend(), codes.OK)
	// An answer to a later call shows that the server has the slow one.
	_, err = healthv1.NewHealthClient(conn).Check(t.Context(), new(healthv1.HealthCheckRequest))
	wantCode(t, err, codes.OK)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returns %v with a call in flight", err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	wantCode(t, slow.RecvMsg(new(groupv1.ListGroupsResponse)), codes.Unavailable)
}

// serve serves the sandbox over TCP until the test ends, and connects to it.
func serve(t *testing.T, s *sandbox.Sandbox) (*sandbox.Server, *grpc.ClientConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := s.NewServer()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(conn.Close(), server.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return server, conn
}
