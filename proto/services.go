package proto

import (
	"context"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Service is a service of the Mesh API.
type Service struct {
	Descriptor protoreflect.ServiceDescriptor
	// RegisterHandlers registers the generated HTTP handlers of the service with mux, one per
	// route, in the order of the .proto file. The handlers call conn.
	RegisterHandlers func(ctx context.Context, mux *runtime.ServeMux, conn grpc.ClientConnInterface) error
}
