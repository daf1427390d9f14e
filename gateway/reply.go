package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
	"github.com/meshtrade/mesh-gateway/internal/wirejson"
)

// receiver is what the generated handlers are given to write to. It takes messages
// and not their bytes, so that it decides how a message is written.
type receiver interface {
	http.ResponseWriter
	// receive takes a message of the upstream. A stream gets nil first, once the
	// upstream has accepted the call.
	receive(message proto.Message) error
}

// forward is the runtime's hook for each message before it is written. It writes
// the message, and leaves nothing to do for the runtime.
func forward(_ context.Context, w http.ResponseWriter, message proto.Message) error {
	to, ok := w.(receiver)
	if !ok {
		return fmt.Errorf("gateway: the generated handler writes to %T", w)
	}
	return to.receive(message)
}

// written is what the runtime marshals in the place of a message that forward wrote.
type written struct{}

func forwarded(context.Context, proto.Message) (any, error) { return written{}, nil }

// wireForm returns the wire form of the reply that was received last. It reports false if the
// reply is a message instead, from a connection that ignores the codec.
func (q *request) wireForm() (form []byte, raw bool) {
	if q.codec.held == nil {
		return nil, false
	}
	return q.codec.held.ReadOnlyData(), true
}

// render appends the part of a reply that was asked for to out, as canonical ProtoJSON:
// lowerCamelCase names, 64-bit integers as strings, enums by name, fields at their
// default left out. The message is used only if the reply has no wire form.
func (q *request) render(out []byte, message proto.Message) ([]byte, error) {
	form, raw := q.wireForm()
	if raw && q.route.reply.Supported() {
		body, err := q.route.reply.Append(out, form, q.kept)
		if err != nil {
			return nil, q.unusable(err)
		}
		return body, nil
	}
	q.route.options.fallback(Method{q.route.Method})
	if raw {
		message = newMessage(q.route.Method.Descriptor.Output())
		if err := proto.Unmarshal(form, message); err != nil {
			return nil, q.unusable(err)
		}
	}
	q.mask.prune(message.ProtoReflect())
	body, err := protojson.Marshal(message)
	if err != nil {
		return nil, q.unusable(err)
	}
	// protojson varies its spacing from build to build.
	compact := bytes.NewBuffer(out)
	if err := json.Compact(compact, body); err != nil {
		return nil, q.unusable(err)
	}
	return compact.Bytes(), nil
}

// maxPooled is the size of the largest buffer that is kept for other replies, in bytes.
const maxPooled = 64 << 10

// buffers holds buffers for replies that are rendered whole.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// renderTo renders a reply and calls use with its JSON, which is valid until use returns.
func (q *request) renderTo(message proto.Message, use func(json []byte) error) error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	body, err := q.render((*buffer)[:0], message)
	if err != nil {
		return err
	}
	if cap(body) <= maxPooled {
		*buffer = body
	}
	return use(body)
}

// unusable is the error of a reply that is malformed.
func (q *request) unusable(cause error) error {
	refusal := apierror.NewSent(codes.Internal, apierror.UpstreamReply,
		"The response from the Mesh API cannot be used. The request is read-only and safe to repeat. Report this problem with the request id.")
	if q.route.Method.Write {
		refusal = q.unknown(codes.Internal, "The request was sent to the Mesh API, but its response cannot be used.")
	}
	return refusal.WithHTTPStatus(http.StatusBadGateway).WithCause(cause)
}

// unknown is the error of a WRITE whose outcome is unknown.
func (q *request) unknown(code codes.Code, message string) *apierror.Error {
	rpc, path := q.route.Method.Lookup(q.sent)
	return apierror.Unknown(code, message, rpc, path)
}

// reply receives the one message of a unary call.
type reply struct {
	http.ResponseWriter
	request  *request
	workbook bool
	head     bool
	done     bool
}

// Unwrap is for [http.ResponseController].
func (a *reply) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *reply) receive(message proto.Message) error {
	if a.workbook {
		return a.sendWorkbook(message)
	}
	q := a.request
	form, raw := q.wireForm()
	large := len(form) >= wirejson.PieceSize/2
	// The answer to a WRITE is rendered whole before the first byte, so that a reply that
	// cannot be used is known in time.
	if raw && q.route.reply.Supported() && large && !q.route.Method.Write {
		if a.head {
			if err := a.measure(form); err != nil {
				return err
			}
		}
		return a.sendPieces(form)
	}
	return q.renderTo(message, func(body []byte) error {
		if large {
			q.hold(len(form) + cap(body))
		}
		a.send(wire.JSON, append(body, '\n'))
		return nil
	})
}

// measure sets the length of a large reply, which the answer to a HEAD needs.
func (a *reply) measure(form []byte) error {
	length := count(1) // the line feed
	if err := a.request.route.reply.Write(&length, form, a.request.kept); err != nil {
		return a.request.unusable(err)
	}
	a.Header().Set("Content-Length", strconv.Itoa(int(length)))
	return nil
}

// count is the number of bytes that were written to it.
type count int

// Write implements [io.Writer].
func (c *count) Write(data []byte) (int, error) {
	*c += count(len(data))
	return len(data), nil
}

// sendPieces writes a large reply in pieces, so that its JSON is never in memory as a
// whole.
func (a *reply) sendPieces(form []byte) error {
	a.request.hold(len(form) + wirejson.PieceSize)
	to := pieces{reply: a}
	err := a.request.route.reply.Write(&to, form, a.request.kept)
	switch {
	case err == nil:
		to.last()
		return nil
	case !a.done:
		return a.request.unusable(err)
	case to.failed:
		return nil // the client is gone
	}
	// Half an answer must not look whole.
	apierror.Observe(a.ResponseWriter, a.request.unusable(err))
	panic(http.ErrAbortHandler)
}

// pieces sends the pieces of a reply, a single one with its length.
type pieces struct {
	reply  *reply
	failed bool
}

// Write implements [io.Writer].
func (p *pieces) Write(piece []byte) (int, error) {
	a := p.reply
	if !a.done {
		if len(piece) < wirejson.PieceSize { // the only one
			a.Header().Set("Content-Length", strconv.Itoa(len(piece)+1))
		}
		a.done = true
	}
	n, err := a.ResponseWriter.Write(piece)
	p.failed = err != nil
	return n, err
}

func (p *pieces) last() {
	_, _ = p.reply.ResponseWriter.Write([]byte{'\n'}) // the client may be gone
}

func (a *reply) send(media string, body []byte) {
	if media != wire.JSON { // which the runtime has set, since it is that of the codec
		a.Header().Set("Content-Type", media)
	}
	a.Header().Set("Content-Length", strconv.Itoa(len(body)))
	a.done = true
	_, _ = a.ResponseWriter.Write(body) // the client may be gone
}

// Write drops what the runtime writes after the reply, which is nothing.
func (a *reply) Write(data []byte) (int, error) {
	if a.done {
		return len(data), nil
	}
	return a.ResponseWriter.Write(data)
}

// workbookField is the reply field that makes a method answer with a file on request.
const workbookField = "excel_base64"

// sendWorkbook answers with the file that the reply holds in base64.
func (a *reply) sendWorkbook(message proto.Message) error {
	form, _ := a.request.wireForm()
	a.request.hold(3 * len(form)) // with the text and the file
	file, err := a.request.workbookIn(message)
	if err != nil {
		return a.request.unusable(err)
	}
	a.Header().Set(wire.ContentDispositionHeader, `attachment; filename="account-report-`+a.request.path+`.xlsx"`)
	a.send(wire.Workbook, file)
	return nil
}

func (q *request) workbookIn(message proto.Message) ([]byte, error) {
	field := q.route.workbook
	text := []byte(message.ProtoReflect().Get(field).String())
	if form, raw := q.wireForm(); raw {
		var err error
		if text, err = wirejson.Bytes(form, field.Number()); err != nil {
			return nil, err
		}
	}
	file := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(file, text)
	return file[:n], err
}

// codec is the runtime's marshaler. Its decoder reads bodies (body.go). It marshals
// only errors that end a stream, for the stream to write (stream.go), since messages
// are written by forward and other errors by writeError.
type codec struct{}

// ContentType implements [runtime.Marshaler]. The writers set their own.
func (codec) ContentType(any) string { return wire.JSON }

// Delimiter implements [runtime.Delimited].
func (codec) Delimiter() []byte { return nil }

// Marshal returns nothing for a message that forward wrote, and the wire form of the
// status for an error that ends a stream.
func (codec) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case written:
		return nil, nil
	case map[string]any: // {"result": written}
		return nil, nil
	case map[string]proto.Message: // {"error": status}
		return proto.Marshal(v["error"])
	}
	return nil, fmt.Errorf("gateway: cannot marshal %T", v)
}

// NewDecoder returns the decoder of a request's body.
func (codec) NewDecoder(body io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		q, ok := body.(*request)
		if !ok {
			return fmt.Errorf("gateway: the generated handler reads from %T", body)
		}
		return q.decode(v)
	})
}

// Unmarshal is part of the interface; the generated handlers use the decoder.
func (codec) Unmarshal([]byte, any) error { return fmt.Errorf("gateway: not supported") }

// NewEncoder is part of the interface; the runtime uses Marshal.
func (codec) NewEncoder(io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error { return fmt.Errorf("gateway: not supported: %T", v) })
}
