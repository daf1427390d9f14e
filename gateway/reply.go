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

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
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

// render writes the part of a message that the mask admits as canonical ProtoJSON:
// lowerCamelCase names, 64-bit integers as strings, enums by name, fields at their
// default left out. It changes the message.
func render(message proto.Message, m mask) ([]byte, error) {
	m.prune(message.ProtoReflect())
	body, err := protojson.Marshal(message)
	if err != nil {
		return nil, apierror.New(codes.Internal, apierror.UpstreamReply, "The Mesh API answered with a message that cannot be written as JSON.").WithCause(err)
	}
	// protojson varies its spacing from build to build.
	var out bytes.Buffer
	out.Grow(len(body) + 1)
	if err := json.Compact(&out, body); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// reply receives the one message of a unary call.
type reply struct {
	http.ResponseWriter
	request  *request
	workbook bool
	done     bool
}

// Unwrap is for [http.ResponseController].
func (a *reply) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *reply) receive(message proto.Message) error {
	if a.workbook {
		return a.sendWorkbook(message)
	}
	body, err := render(message, a.request.mask)
	if err != nil {
		return err
	}
	a.send(mediaJSON, append(body, '\n'))
	return nil
}

func (a *reply) send(media string, body []byte) {
	a.Header().Set("Content-Type", media)
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
	file, err := workbookIn(message, a.request.route.workbook)
	if err != nil {
		return apierror.New(codes.Internal, apierror.UpstreamReply, "The Mesh API answered with a workbook that cannot be decoded.").WithCause(err)
	}
	a.Header().Set("Content-Disposition", `attachment; filename="account-report-`+a.request.path+`.xlsx"`)
	a.send(mediaWorkbook, file)
	return nil
}

func workbookIn(message proto.Message, field protoreflect.FieldDescriptor) ([]byte, error) {
	return base64.StdEncoding.DecodeString(message.ProtoReflect().Get(field).String())
}

// codec is the runtime's marshaler. Its decoder reads bodies (body.go). It marshals
// only errors that end a stream, for the stream to write (stream.go), since messages
// are written by forward and other errors by writeError.
type codec struct{}

// ContentType implements [runtime.Marshaler]. The writers set their own.
func (codec) ContentType(any) string { return mediaJSON }

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
