package audit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	_ "google.golang.org/grpc/encoding/proto" // registers the codec of replies

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Outcome is what became of a WRITE.
type Outcome string

// The outcomes of WRITEs.
const (
	// Done means that Mesh carried it out.
	Done Outcome = "done"
	// Refused means that Mesh answered with an error.
	Refused Outcome = "refused"
	// Unknown means that it may have been carried out.
	Unknown Outcome = "unknown"
	// NotSent means that nothing was sent to Mesh: the gateway refused it, or could not send it.
	NotSent Outcome = "not_sent"
	// Replayed means that nothing was sent to Mesh, and the answer is that to an earlier request with
	// the same Idempotency-Key. The code is that of the answer.
	Replayed Outcome = "replayed"
)

// Outcomes returns all outcomes.
func Outcomes() []Outcome { return []Outcome{Done, Refused, Unknown, NotSent, Replayed} }

// outcomeOf returns the outcome of a WRITE that ended with the error, which may be nil. sent reports
// whether it may have been sent if the error does not say so.
func outcomeOf(err error, replayed, sent bool) Outcome {
	own, ofGateway := errors.AsType[*apierror.Error](err)
	// What may have been sent is an earlier request with the same key.
	earlier := func() bool {
		reason := apierror.Reason(apierror.ReasonOf(err))
		return reason == apierror.IdempotencyKeyInUse || reason == apierror.AlreadyFinished
	}
	switch {
	case replayed:
		return Replayed
	case err == nil:
		return Done
	case ofGateway && own.Sent() && !earlier():
		return Unknown
	case ofGateway:
		return NotSent
	case apierror.CauseOf(err) == nil:
		return Refused // a status of Mesh
	case sent:
		return Unknown
	default:
		return NotSent // a defect of the gateway
	}
}

// Recorder records what became of WRITEs: in the metrics, and in the audit log if there is one. It is
// safe for concurrent use.
type Recorder struct {
	log   *Log // nil if there is none
	count func(outcome string, keyed bool)
}

// NewRecorder returns a recorder. log may be nil. It must be called at most once for the metrics.
func NewRecorder(log *Log, metrics *telemetry.Metrics) *Recorder {
	var outcomes []string
	for _, outcome := range Outcomes() {
		outcomes = append(outcomes, string(outcome))
	}
	return &Recorder{log, metrics.CountWrites(outcomes)}
}

// Rejected records a WRITE that the gateway itself did not pass on, because of err. err may be nil if
// the client left.
func (r *Recorder) Rejected(line Line, idempotencyKey string, sent bool, err error) {
	line.Outcome = NotSent
	if sent {
		line.Outcome = Unknown // the gateway failed after it
	}
	r.record(line, idempotencyKey, err)
}

func (r *Recorder) record(line Line, idempotencyKey string, err error) {
	r.count(string(line.Outcome), idempotencyKey != "")
	if r.log == nil {
		return
	}
	line.Time = time.Now().UTC()
	line.KeyHash = hashOf(idempotencyKey)
	line.Code = code.Code_OK.String()
	if err != nil {
		line.Code, line.Reason = code.Code(apierror.CodeOf(err)).String(), apierror.ReasonOf(err)
	}
	r.log.Write(line)
}

// hashOf returns the SHA-256 of a text in base64, or "" for "".
func hashOf(text string) string {
	if text == "" {
		return ""
	}
	hash := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(hash[:])
}

// Conn is a connection to Mesh that records each WRITE. It comes after the checks of a request and
// before [idempotency.Conn], so that it sees replays, and does not depend on the protocol of the
// client. What it does not see, because the checks refuse it, is for [Recorder.Rejected].
type Conn struct {
	conn     grpc.ClientConnInterface
	recorder *Recorder
	codec    encoding.CodecV2
	// names are the numbers of the fields "name" of the replies.
	names map[string]protowire.Number
}

// NewConn returns a connection that records the calls over conn.
func NewConn(conn grpc.ClientConnInterface, recorder *Recorder) (*Conn, error) {
	c := &Conn{conn, recorder, encoding.GetCodecV2("proto"), make(map[string]protowire.Number)}
	if c.codec == nil {
		return nil, errors.New("audit: grpc-go has no codec called proto")
	}
	for _, method := range contract.Methods() {
		field := method.Descriptor.Output().Fields().ByName("name")
		if field != nil && field.Kind() == protoreflect.StringKind && !field.IsList() {
			c.names[method.Name()] = field.Number()
		}
	}
	return c, nil
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
	md, _ := metadata.FromOutgoingContext(ctx)
	line := Line{RPC: method, Group: wire.First(md, wire.GroupHeader), RequestID: wire.First(md, wire.RequestIDHeader)}
	request, _ := args.(proto.Message)
	line.Resource = called.Resource(request)
	name := &nameCodec{CodecV2: c.codec, field: c.names[method]}
	if line.Resource == "" && name.field != 0 && c.recorder.log != nil {
		opts = name.among(opts)
	}
	err := c.invoke(ctx, method, args, reply, opts)
	if line.Resource == "" {
		line.Resource = name.name
	}
	call := telemetry.CallOf(ctx)
	line.Outcome = outcomeOf(err, replayed(opts), call != nil && call.Sent())
	line.TraceID = wire.TraceID(wire.First(md, wire.TraceparentHeader))
	if call != nil {
		line.Caller, line.Client = call.Caller.String(), telemetry.AddressText(call.Client)
		call.SetAudited()
	} else {
		line.Caller = hashOf(wire.First(md, wire.APIKeyHeader))
	}
	c.recorder.record(line, wire.First(md, wire.IdempotencyKeyHeader), err)
	return err
}

func (c *Conn) invoke(ctx context.Context, method string, args, reply any, opts []grpc.CallOption) error {
	if c.recorder.log != nil && c.recorder.log.Refuses() {
		return apierror.New(codes.Unavailable, apierror.AuditUnavailable,
			"The gateway cannot write its audit log, and does not pass on writes without it. Nothing was sent to the Mesh API. Try again later.")
	}
	return c.conn.Invoke(ctx, method, args, reply, opts...)
}

// replayed reports whether the metadata of the reply says that it is an earlier one
// ([idempotency.Conn]).
func replayed(opts []grpc.CallOption) bool {
	for _, opt := range opts {
		if header, ok := opt.(grpc.HeaderCallOption); ok && wire.First(*header.HeaderAddr, wire.ReplayedHeader) == "true" {
			return true
		}
	}
	return false
}

// maxSearched is the size of the largest reply in which a name is looked for, in bytes. The replies to
// writes of the contract have a few hundred.
const maxSearched = 64 << 10

// nameCodec finds the name of the resource in a reply, and leaves the reply to another codec.
type nameCodec struct {
	encoding.CodecV2

	field protowire.Number
	name  string
}

// among returns the options of a call with the codec in the place of theirs.
func (c *nameCodec) among(opts []grpc.CallOption) []grpc.CallOption {
	for _, opt := range opts {
		if forced, ok := opt.(grpc.ForceCodecV2CallOption); ok {
			c.CodecV2 = forced.CodecV2
		}
	}
	// Of several codecs, the last one is used.
	return append(opts[:len(opts):len(opts)], grpc.ForceCodecV2(c))
}

// Unmarshal implements [encoding.CodecV2].
func (c *nameCodec) Unmarshal(data mem.BufferSlice, message any) error {
	if data.Len() <= maxSearched {
		c.name = stringIn(data.Materialize(), c.field) //nolint:misspell // a method of grpc-go
	}
	return c.CodecV2.Unmarshal(data, message)
}

// stringIn returns the string field of a message in wire form, or "".
func stringIn(message []byte, field protowire.Number) string {
	found := ""
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return found
		}
		message = message[n:]
		if number == field && kind == protowire.BytesType {
			value, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return found
			}
			found, message = string(value), message[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return found
		}
		message = message[n:]
	}
	return found
}
