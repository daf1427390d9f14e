package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// validatingConn is the last step before the upstream. It checks the finished request
// message, whatever parts of the HTTP request it came from, and sends no metadata but
// that of the request.
//
// The replies of calls are in their wire form (codec.go). A connection that ignores the codec
// of a call hands over messages, which are written by protojson.
type validatingConn struct {
	conn  grpc.ClientConnInterface
	rules *rules
	// keepAlive is how long a stream waits for its first message.
	keepAlive time.Duration
}

// Invoke checks the request and calls the upstream once, or twice if the reply to a read is larger
// than the memory that was reserved for it.
func (c *validatingConn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	if err := c.rules.check(args); err != nil {
		return err
	}
	q, err := requestOf(ctx)
	if err != nil {
		return err
	}
	q.sent, _ = args.(proto.Message) // which check has found it to be
	err = c.invokeWithin(metadata.NewOutgoingContext(q.ctx, q.metadata), q, method, args, reply)
	if replayed := q.replyMetadata.Get(wire.ReplayedHeader); len(replayed) > 0 {
		q.response.Header()[wire.ReplayedHeader] = replayed
	}
	if form, raw := q.wireForm(); raw && err == nil {
		q.hold(len(form))
	}
	return err
}

// invokeWithin calls the upstream. The reply to a read is received up to the limit of the lease
// only. If it is larger, grpc-go drops it before it is in memory, and the call is repeated with a
// limit that fits, if the lease has room for it. A write is never repeated, and has no limit.
func (c *validatingConn) invokeWithin(ctx context.Context, q *request, method string, args, reply any) error {
	limit := int64(0)
	if q.lease != nil && !q.route.Method.Write {
		limit = q.lease.Limit()
	}
	if limit == 0 {
		options := q.options()
		if len(q.metadata.Get(wire.IdempotencyKeyHeader)) > 0 {
			options = append(options, grpc.Header(&q.replyMetadata))
		}
		return c.conn.Invoke(ctx, method, args, reply, options...)
	}
	err := c.conn.Invoke(ctx, method, args, reply, q.options(grpc.MaxCallRecvMsgSize(int(limit)))...)
	size, tooLarge := sizeOver(limit, err)
	if !tooLarge {
		return err
	}
	if refusal := q.lease.Grow(size); refusal != nil {
		return refusal
	}
	if limit = q.lease.Limit(); limit < size { // larger than any reply may be
		return err
	}
	return c.conn.Invoke(ctx, method, args, reply, q.options(grpc.MaxCallRecvMsgSize(int(limit)))...)
}

// sizeOver returns the size of a reply that grpc-go did not receive because it is larger than the
// limit. Only the text of the error has it.
func sizeOver(limit int64, err error) (size int64, tooLarge bool) {
	for ; err != nil; err = errors.Unwrap(err) {
		_, sizes, found := strings.Cut(err.Error(), "grpc: received message larger than max (")
		if !found {
			continue
		}
		var bound int64
		if n, _ := fmt.Sscanf(sizes, "%d vs. %d)", &size, &bound); n == 2 && bound == limit && size > limit {
			return size, true
		}
	}
	return 0, false
}

// NewStream returns a stream that is opened when its request has passed the check.
func (c *validatingConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	q, err := requestOf(ctx)
	if err != nil {
		return nil, err
	}
	s := &validatingStream{rules: c.rules, keepAlive: c.keepAlive, request: q, codec: q.route.codecs.ofCall()}
	s.open = func() (grpc.ClientStream, error) {
		return c.conn.NewStream(metadata.NewOutgoingContext(q.ctx, q.metadata), desc, method, grpc.StaticMethod(), grpc.ForceCodecV2(&s.codec))
	}
	return s, nil
}

// options are those of the request's call. They take the place of the generated client's,
// which ask for the metadata of the reply: hardly any of it is passed on.
func (q *request) options(more ...grpc.CallOption) []grpc.CallOption {
	return append(more, grpc.StaticMethod(), grpc.ForceCodecV2(&q.codec))
}
