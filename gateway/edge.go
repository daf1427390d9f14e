package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// edge is the last point before the upstream: it sees the finished request
// message, whatever parts of the HTTP request it came from.
type edge struct {
	conn      grpc.ClientConnInterface
	validator protovalidate.Validator
	forwarded allowList
}

// newEdge compiles the rules of every request up front, so that no caller
// waits for it and a broken rule fails the start.
func newEdge(conn grpc.ClientConnInterface, methods []*Method, forwarded allowList) (*edge, error) {
	requests := make([]proto.Message, 0, len(methods))
	for _, method := range methods {
		requests = append(requests, newMessage(method.Descriptor.Input()))
	}
	validator, err := protovalidate.New(
		protovalidate.WithMessages(requests...),
		protovalidate.WithDisableLazy(),
	)
	if err != nil {
		return nil, fmt.Errorf("gateway: validation rules: %w", err)
	}
	return &edge{conn: conn, validator: validator, forwarded: forwarded}, nil
}

// Invoke validates the request and calls the upstream once.
func (e *edge) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if err := e.validate(args); err != nil {
		return err
	}
	return e.conn.Invoke(e.forwarded.only(ctx), method, args, reply, opts...)
}

// NewStream opens an upstream stream that validates the request it is sent.
func (e *edge) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, cancel := context.WithCancel(e.forwarded.only(ctx))
	stream, err := e.conn.NewStream(ctx, desc, method, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	// The stream's own context ends with the HTTP request's; cancel serves the
	// request that never passes validation.
	return &edgeStream{ClientStream: stream, edge: e, cancel: cancel}, nil
}

type edgeStream struct {
	grpc.ClientStream
	edge   *edge
	cancel context.CancelFunc
}

func (s *edgeStream) SendMsg(m any) error {
	if err := s.edge.validate(m); err != nil {
		s.cancel()
		return err
	}
	return s.ClientStream.SendMsg(m)
}

// Header brings forward a refusal that comes before the first message: the
// generated handlers answer an error of Header like that of a unary call, with
// its status and in the one error shape.
func (s *edgeStream) Header() (metadata.MD, error) {
	header, err := s.ClientStream.Header()
	if header == nil && err == nil {
		// The stream ended without headers; RecvMsg tells how.
		if err = s.ClientStream.RecvMsg(new(emptypb.Empty)); errors.Is(err, io.EOF) {
			return nil, nil
		}
	}
	if err != nil {
		s.cancel()
	}
	return header, err
}

func (s *edgeStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.cancel()
	}
	return err
}

// validate lists every rule that the request breaks, with field paths in JSON
// spelling.
func (e *edge) validate(message any) error {
	request, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("gateway: %T is no protobuf message", message)
	}
	err := e.validator.Validate(request)
	if err == nil {
		return nil
	}
	broken, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		// A rule that cannot be evaluated is a defect of the contract.
		return fmt.Errorf("gateway: validation: %w", err)
	}
	return apierror.Invalid(violations(request.ProtoReflect().Descriptor(), broken.Violations)...)
}

// violations words what is broken, once each: the contract states several rules
// twice, and the length of what has a pattern is not worth a word more.
func violations(message protoreflect.MessageDescriptor, broken []*protovalidate.Violation) []apierror.Violation {
	patterned := make(map[string]bool)
	for _, v := range broken {
		if v.Proto.GetRuleId() == patternRule {
			patterned[jsonPath(message, v.Proto.GetField())] = true
		}
	}
	var worded []apierror.Violation
	for _, v := range broken {
		field := jsonPath(message, v.Proto.GetField())
		if v.Proto.GetRuleId() == "string.len" && patterned[field] {
			continue
		}
		one := apierror.Violation{Field: field, Description: describe(v)}
		if !slices.Contains(worded, one) {
			worded = append(worded, one)
		}
	}
	return worded
}
