package main

import (
	"bytes"
	"fmt"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// upstream answers the calls of the rows with ready-made bytes. It refuses a call that is
// not exactly that of its row, so that no peer can be fast by leaving something out.
type upstream struct {
	calls map[string]*cannedCall // by group
}

type cannedCall struct {
	row     *row
	request []byte
	replies [][]byte
}

func newUpstream(rows map[string]*row) (*upstream, error) {
	u := &upstream{calls: make(map[string]*cannedCall)}
	for group, r := range rows {
		request, err := proto.Marshal(r.request)
		if err != nil {
			return nil, err
		}
		replies, err := r.wire()
		if err != nil {
			return nil, err
		}
		u.calls[group] = &cannedCall{r, request, replies}
	}
	return u, nil
}

func (u *upstream) handle(_ any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	if !slices.Equal(md[apiKeyMetadata], []string{apiKey}) {
		return status.Errorf(codes.Unauthenticated, "bench: %s is %q, want one %q", apiKeyMetadata, md[apiKeyMetadata], apiKey)
	}
	var call *cannedCall
	if groups := md[groupMetadata]; len(groups) == 1 {
		call = u.calls[groups[0]]
	}
	if call == nil {
		return status.Errorf(codes.NotFound, "bench: no row has %s %q", groupMetadata, md[groupMetadata])
	}
	if method, _ := grpc.MethodFromServerStream(stream); method != call.row.method {
		return status.Errorf(codes.Unimplemented, "bench: %q calls %s, want %s", call.row.name, method, call.row.method)
	}
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	if err := call.accepts(request); err != nil {
		return status.Error(codes.InvalidArgument, "bench: "+err.Error())
	}
	for _, reply := range call.replies {
		if err := stream.SendMsg(reply); err != nil {
			return err
		}
	}
	return nil
}

// accepts compares a request with that of the row: by its bytes, and only where those
// differ by its fields, since protobuf has no canonical encoding.
func (c *cannedCall) accepts(request []byte) error {
	if bytes.Equal(request, c.request) {
		return nil
	}
	got := c.row.request.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(request, got); err != nil {
		return err
	}
	if !proto.Equal(got, c.row.request) {
		return fmt.Errorf("%q sends %v, want %v", c.row.name, got, c.row.request)
	}
	return nil
}

// serveUpstream serves the rows over gRPC without TLS until the listener is closed.
func serveUpstream(listener net.Listener) error {
	u, err := newUpstream(rowsByGroup())
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(u.handle), grpc.ForceServerCodecV2(bytesCodec{}))
	return server.Serve(listener)
}
