package gateway

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	_ "google.golang.org/grpc/encoding/proto" // registers the codec that sends requests
)

// wireCodec is the gRPC codec of one call. It sends the request as usual. It keeps a reply in
// its wire form and leaves the message empty, which the generated code then passes on.
//
// The codec owns the bytes of the last reply. grpc-go uses its buffers again once nobody holds
// them, and an answer written from such a buffer could be somebody else's. release gives the
// bytes back, so it is called after the last use of them.
type wireCodec struct {
	encoding.CodecV2 // for requests

	held mem.Buffer // nil if there was no reply
}

// requestCodec returns the codec that sends requests.
func requestCodec() (encoding.CodecV2, error) {
	codec := encoding.GetCodecV2("proto")
	if codec == nil {
		return nil, fmt.Errorf("gateway: grpc-go has no codec called proto")
	}
	return codec, nil
}

// Unmarshal implements [encoding.CodecV2]. It releases the reply before.
func (c *wireCodec) Unmarshal(data mem.BufferSlice, _ any) error {
	c.release()
	c.held = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}

// take returns the last reply, which the caller then owns.
func (c *wireCodec) take() mem.Buffer {
	held := c.held
	c.held = nil
	return held
}

// release gives back the bytes of the last reply.
func (c *wireCodec) release() {
	if c.held != nil {
		c.held.Free()
		c.held = nil
	}
}
