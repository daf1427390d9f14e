package sandbox_test

import (
	"net"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := m.sandbox.NewServer()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})

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
