package idempotency

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	_ "google.golang.org/grpc/encoding/proto" // registers the codec of requests

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Conn is a connection to Mesh that makes a write with an Idempotency-Key at most once. It comes
// after the checks of a request and before the connection that sends it, so that it does not depend
// on the protocol of the client.
//
// The key is the metadata "idempotency-key" of a write, which is not sent to Mesh. If the answer is
// that to an earlier request, the metadata of the reply ([grpc.Header]) has "idempotent-replayed"
// with the value "true".
type Conn struct {
	conn     grpc.ClientConnInterface
	keeper   *Keeper
	required bool
	codec    encoding.CodecV2 // of requests
}

// NewConn returns a connection that sends its calls over conn. If required is true, a write without
// a key is refused, except for one without an API key.
func NewConn(conn grpc.ClientConnInterface, keeper *Keeper, required bool) (*Conn, error) {
	codec := encoding.GetCodecV2("proto")
	if codec == nil {
		return nil, errors.New("idempotency: grpc-go has no codec called proto")
	}
	return &Conn{conn, keeper, required, codec}, nil
}

// NewStream implements [grpc.ClientConnInterface]. Streams only read.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.conn.NewStream(ctx, desc, method, opts...)
}

// Invoke implements [grpc.ClientConnInterface].
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	called := contract.ByName(method)
	if called == nil || !called.Write {
		return c.conn.Invoke(ctx, method, args, reply, opts...)
	}
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	values := md.Get(wire.IdempotencyKeyHeader)
	apiKey := wire.First(md, wire.APIKeyHeader)
	key, err := KeyOf(called, values, apiKey != "", c.required)
	if err != nil {
		return err
	}
	if key == "" {
		return c.conn.Invoke(ctx, method, args, reply, opts...)
	}
	message, ok := args.(proto.Message)
	if !ok {
		return fmt.Errorf("idempotency: %T is not a protobuf message", args)
	}
	into, ok := reply.(proto.Message)
	if !ok {
		return fmt.Errorf("idempotency: %T is not a protobuf message", reply)
	}
	md.Delete(wire.IdempotencyKeyHeader)
	request := Request{Key: key, APIKey: apiKey, Group: wire.First(md, wire.GroupHeader), Method: method, Message: message}
	answer, err := c.keeper.Do(metadata.NewOutgoingContext(ctx, md), request, func(ctx context.Context) Outcome {
		return c.call(ctx, called, message, into, opts)
	})
	if answer.Replayed {
		for _, opt := range opts {
			if header, ok := opt.(grpc.HeaderCallOption); ok {
				*header.HeaderAddr = metadata.Pairs(wire.ReplayedHeader, "true")
			}
		}
	}
	if err != nil {
		return err
	}
	return deliver(answer.Reply, into, opts)
}

// call makes the call and says how it ended.
func (c *Conn) call(ctx context.Context, method *contract.Method, request, reply proto.Message, opts []grpc.CallOption) Outcome {
	codec := &formCodec{CodecV2: c.codec}
	// Of several codecs, the last one is used.
	err := c.conn.Invoke(ctx, method.Name(), request, reply, append(opts[:len(opts):len(opts)], grpc.ForceCodecV2(codec))...)
	own, ofGateway := errors.AsType[*apierror.Error](err)
	switch {
	case err == nil:
		// A reply that cannot be used says nothing of the outcome.
		if unusable := proto.Unmarshal(codec.form, reply.ProtoReflect().New().Interface()); unusable != nil {
			rpc, path := method.Lookup(request)
			return Unanswered(apierror.Unknown(codes.Internal, "The request was sent to the Mesh API, but its response cannot be used.", rpc, path).
				WithHTTPStatus(http.StatusBadGateway).WithCause(unusable))
		}
		return Replied(codec.form)
	case !ofGateway:
		return RefusedByMesh(err)
	case own.Sent():
		return Unanswered(err)
	default:
		return NotSent(err)
	}
}

// deliver hands a reply over to the caller as a connection would: with the codec of the call.
func deliver(form []byte, reply proto.Message, opts []grpc.CallOption) error {
	var codec encoding.CodecV2
	for _, opt := range opts {
		if forced, ok := opt.(grpc.ForceCodecV2CallOption); ok {
			codec = forced.CodecV2
		}
	}
	if codec == nil {
		return proto.Unmarshal(form, reply)
	}
	return codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(form)}, reply)
}

// formCodec keeps the wire form of a reply.
type formCodec struct {
	encoding.CodecV2

	form []byte
}

// Unmarshal implements [encoding.CodecV2].
func (c *formCodec) Unmarshal(data mem.BufferSlice, _ any) error {
	c.form = data.Materialize() //nolint:misspell // a method of grpc-go
	return nil
}
