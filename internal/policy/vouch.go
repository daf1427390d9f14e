package policy

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Vouch asks Mesh whether it accepts the API key of a request that [Policy.Admit] has admitted,
// unless it has accepted it lately. It returns nil if it does, the status of Mesh if it does not, and
// an error with UNAVAILABLE if Mesh did not say.
//
// It reads the group that the request acts for, which takes no resource but that and replies with
// little. Mesh checks the key first, so all answers but UNAUTHENTICATED mean that the key is valid.
// Whether the key may do anything is checked when it is used.
func (k *Keys) Vouch(ctx context.Context, conn grpc.ClientConnInterface, header http.Header) error {
	key, group := header.Get(wire.APIKeyHeader), header.Get(wire.GroupHeader)
	hash := hashOf(key)
	if k.Known(hash) {
		return nil
	}
	path, segment := contract.Match("/v1/" + group)
	if path == nil {
		return apierror.New(codes.Internal, apierror.Internal, "The contract has no method that reads a group.")
	}
	binding := path.Binding(http.MethodGet)
	request := dynamicpb.NewMessage(binding.Method.Descriptor.Input())
	request.Set(request.Descriptor().Fields().ByName(protoreflect.Name(binding.PathField)), protoreflect.ValueOfString(binding.PathValue(segment)))

	md := metadata.Pairs(strings.ToLower(wire.APIKeyHeader), key, strings.ToLower(wire.GroupHeader), group)
	if id := header.Get(wire.RequestIDHeader); id != "" {
		md.Set(strings.ToLower(wire.RequestIDHeader), id)
	}
	// The reply becomes the unknown fields of an empty message.
	err := conn.Invoke(metadata.NewOutgoingContext(ctx, md), binding.Method.Name(), request, new(emptypb.Empty))
	switch code := status.Code(err); {
	case code == codes.Unauthenticated:
		return err
	case slices.Contains(unanswered(), code):
		return apierror.New(codes.Unavailable, apierror.UpstreamUnreachable,
			"The Mesh API did not say whether the API key is valid, so no ticket was issued. Try again later.").WithCause(err)
	}
	k.Accepted(hash)
	return nil
}

// unanswered returns the codes that gRPC, a proxy or the gateway can reply with in the place of Mesh.
func unanswered() []codes.Code {
	return []codes.Code{
		codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal, codes.DataLoss, codes.Unimplemented, codes.ResourceExhausted,
	}
}
