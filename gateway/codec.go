package gateway

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	_ "google.golang.org/grpc/encoding/proto" // registers the codec that sends requests
)

// codecs makes the codecs of calls.
type codecs struct {
	requests encoding.CodecV2
	// buffers are for replies that arrive in several buffers of grpc-go. Its default pool has no
	// sizes between 32 KiB and 1 MiB, and clears what it hands out.
	buffers mem.BufferPool
}

// The sizes of buffers for replies are powers of two, from 4 KiB to 4 MiB.
const minBuffer, maxBuffer = 12, 22

func newCodecs() (*codecs, error) {
	requests := encoding.GetCodecV2("proto")
	if requests == nil {
		return nil, errors.New("gateway: grpc-go has no codec called proto")
	}
	var sizes []uint8
	for exponent := uint8(minBuffer); exponent <= maxBuffer; exponent++ {
		sizes = append(sizes, exponent)
	}
	buffers, err := mem.NewBinaryTieredBufferPool(sizes...)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return &codecs{requests, buffers}, nil
}

// ofCall returns the codec of one call.
func (c *codecs) ofCall() wireCodec { return wireCodec{CodecV2: c.requests, buffers: c.buffers} }

// wireCodec is the gRPC codec of one call. It sends the request as usual. It keeps a reply in
// its wire form and leaves the message empty, which the generated code then passes on.
//
// The codec owns the bytes of the last reply. grpc-go uses its buffers again once nobody holds
// them, and an answer written from such a buffer could be somebody else's. release gives the
// bytes back, so it is called after the last use of them.
type wireCodec struct {
	encoding.CodecV2 // for requests

	buffers mem.BufferPool
	held    mem.Buffer // nil if there was no reply
}

// Unmarshal implements [encoding.CodecV2]. It releases the reply before.
func (c *wireCodec) Unmarshal(data mem.BufferSlice, _ any) error {
	c.release()
	c.held = data.MaterializeToBuffer(c.buffers)
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
