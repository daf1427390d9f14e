package sandbox

import (
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
)

// olderAPIUserService is what APIUserService was called until late 2025, with
// methods spelled alike. Clients of that age still call it.
const olderAPIUserService = "meshtrade.iam.api_user.v1.ApiUserService"

// registerOlderNames serves the API-user service under its older name too. The
// handlers pass on the name of today, so that the same rules hold.
func registerOlderNames(server grpc.ServiceRegistrar, service apiuserv1.APIUserServiceServer) {
	description := apiuserv1.APIUserService_ServiceDesc
	description.ServiceName = olderAPIUserService
	methods := make([]grpc.MethodDesc, len(description.Methods))
	for i, method := range description.Methods {
		method.MethodName = strings.Replace(method.MethodName, "APIUser", "ApiUser", 1)
		methods[i] = method
	}
	description.Methods = methods
	server.RegisterService(&description, service)
}

// registerTools adds what gRPC tools ask a server for: its health and its
// descriptors.
func registerTools(server *grpc.Server) {
	healthv1.RegisterHealthServer(server, health.NewServer())
	options := reflection.ServerOptions{Services: described{server}}
	reflectionv1.RegisterServerReflectionServer(server, reflection.NewServerV1(options))
	reflectionv1alpha.RegisterServerReflectionServer(server, reflection.NewServer(options))
}

// described lists the services that have descriptors: the older name has none.
type described struct{ server *grpc.Server }

func (d described) GetServiceInfo() map[string]grpc.ServiceInfo {
	services := d.server.GetServiceInfo()
	delete(services, olderAPIUserService)
	return services
}

// tool reports whether a method is one of the tools', which need no key.
func tool(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}
