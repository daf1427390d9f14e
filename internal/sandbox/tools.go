package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
)

// olderAPIUserService is the name that APIUserService had until late 2025. Clients of that age still
// call it.
const olderAPIUserService = "meshtrade.iam.api_user.v1.ApiUserService"

// olderName returns the name that a method of APIUserService has in the older service. Two of them were
// spelt there as they are now.
func olderName(method string) string {
	if method == "AssignRolesToAPIUser" || method == "RevokeRolesFromAPIUser" {
		return method
	}
	return strings.Replace(method, "APIUser", "ApiUser", 1)
}

// registerOlderNames serves APIUserService under its older name as well. The handlers pass on the name
// of today, so that the same rules hold.
func registerOlderNames(server grpc.ServiceRegistrar, service apiuserv1.APIUserServiceServer) {
	description := apiuserv1.APIUserService_ServiceDesc
	description.ServiceName = olderAPIUserService
	description.Methods = slices.Clone(description.Methods)
	for i, method := range description.Methods {
		description.Methods[i].MethodName = olderName(method.MethodName)
	}
	server.RegisterService(&description, service)
}

// registerTools adds what gRPC tools ask a server for: its health and its descriptors.
func registerTools(server *grpc.Server, descriptors protodesc.Resolver) {
	healthv1.RegisterHealthServer(server, health.NewServer())
	options := reflection.ServerOptions{Services: server, DescriptorResolver: descriptors}
	reflectionv1.RegisterServerReflectionServer(server, reflection.NewServerV1(options))
	reflectionv1alpha.RegisterServerReflectionServer(server, reflection.NewServer(options))
}

// extended are descriptors with one file more, which is not registered with the process.
type extended struct {
	protodesc.Resolver
	own *protoregistry.Files
}

// withOlderName adds the descriptor of the older service, whose messages are those of today.
func withOlderName(known protodesc.Resolver) (protodesc.Resolver, error) {
	today := apiuserv1.File_meshtrade_iam_api_user_v1_service_proto
	service := protodesc.ToServiceDescriptorProto(today.Services().ByName("APIUserService"))
	service.Name = proto.String(string(protoreflect.FullName(olderAPIUserService).Name()))
	for _, method := range service.GetMethod() {
		method.Name = proto.String(olderName(method.GetName()))
	}
	file := &descriptorpb.FileDescriptorProto{
		Name:    proto.String("meshtrade/iam/api_user/v1/older_service.proto"),
		Package: proto.String(string(today.Package())),
		Syntax:  proto.String("proto3"),
		Service: []*descriptorpb.ServiceDescriptorProto{service},
		// The file of the messages imports that of their fields, but not publicly.
		Dependency: append([]string{today.Path()}, protodesc.ToFileDescriptorProto(today).GetDependency()...),
	}
	older, err := protodesc.NewFile(file, known)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	own := new(protoregistry.Files)
	if err := own.RegisterFile(older); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	return extended{known, own}, nil
}

// FindFileByPath implements [protodesc.Resolver].
func (e extended) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if file, err := e.own.FindFileByPath(path); !errors.Is(err, protoregistry.NotFound) {
		return file, err
	}
	return e.Resolver.FindFileByPath(path)
}

// FindDescriptorByName implements [protodesc.Resolver].
func (e extended) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if found, err := e.own.FindDescriptorByName(name); !errors.Is(err, protoregistry.NotFound) {
		return found, err
	}
	return e.Resolver.FindDescriptorByName(name)
}

// tool reports whether a method is one of the tools', which need no key.
func tool(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}
