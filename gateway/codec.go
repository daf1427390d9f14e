package gateway

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	_ "google.golang.org/grpc/encoding/proto" // registers the codec that sends requests
)

// wireCodec is the gRPC codec of all calls. It sends requests as usual and leaves replies in
// their wire form: it hands the bytes over as the unknown fields of an empty message, so
// that the generated code passes them on without building a message.
//
// The bytes are a copy. grpc-go uses its buffers again once Unmarshal returns, and an
// answer written from such a buffer could be somebody else's.
type wireCodec struct{ encoding.CodecV2 }

func newWireCodec() (wireCodec, error) {
	codec := encoding.GetCodecV2("proto")
	if codec == nil {
		return wireCodec{}, fmt.Errorf("gateway: grpc-go has no codec called proto")
	}
	return wireCodec{codec}, nil
}

// Unmarshal implements [encoding.CodecV2].
func (wireCodec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("gateway: %T is not a protobuf message", v)
	}
	message.ProtoReflect().SetUnknown(data.Materialize()) //nolint:misspell // a method of grpc-go
	return nil
}
