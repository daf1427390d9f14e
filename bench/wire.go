package main

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

const (
	apiKeyMetadata = "x-api-key"
	groupMetadata  = "x-group"
)

// bytesCodec is a gRPC codec that passes messages on as the bytes they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	data, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not a message in bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	into, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T cannot hold a message in bytes", v)
	}
	*into = make([]byte, data.Len())
	data.CopyTo(*into)
	return nil
}

// dial connects to the upstream as a peer that has no settings of its own.
func dial(upstream string) (*grpc.ClientConn, error) {
	return grpc.NewClient(upstream, grpc.WithTransportCredentials(insecure.NewCredentials()))
}
