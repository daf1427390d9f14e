package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// marshaler speaks canonical ProtoJSON: lowerCamelCase names, 64-bit integers
// as strings, enums by name, fields at their default left out. Each message
// ends in a newline, so a stream is NDJSON.
type marshaler struct{}

// ContentType is that of a unary answer and of every error.
func (marshaler) ContentType(any) string { return "application/json" }

// StreamContentType is that of a stream.
func (marshaler) StreamContentType(any) string { return "application/x-ndjson" }

// Delimiter is empty: Marshal ends each message itself.
func (marshaler) Delimiter() []byte { return nil }

// Marshal renders a message. The runtime wraps the messages of a stream in
// {"result": …} and its errors in {"error": …}; only the latter is kept, so
// that a message reads the same wherever it comes from.
func (m marshaler) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case proto.Message:
		return marshalMessage(v)
	case map[string]any:
		if result, ok := v["result"].(proto.Message); ok {
			return marshalMessage(result)
		}
	case map[string]proto.Message:
		if status, ok := v["error"]; ok {
			body, err := marshalMessage(status)
			if err != nil {
				return nil, err
			}
			return append(append([]byte(`{"error":`), bytes.TrimSuffix(body, []byte("\n"))...), '}', '\n'), nil
		}
	}
	return nil, fmt.Errorf("gateway: cannot marshal %T", v)
}

func marshalMessage(message proto.Message) ([]byte, error) {
	body, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	// protojson varies its spacing from build to build.
	var out bytes.Buffer
	out.Grow(len(body) + 1)
	if err := json.Compact(&out, body); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// Unmarshal reads one message. inspect has already reported all that can be
// wrong with it.
func (marshaler) Unmarshal(data []byte, v any) error {
	return new(runtime.JSONPb).Unmarshal(data, v)
}

// NewDecoder reads one message; an empty body is io.EOF, which the generated
// handlers take for an empty message. JSONPb is used for the pointers to
// pointers that they hand it where the body is one field of the request.
func (marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return new(runtime.JSONPb).NewDecoder(r)
}

// NewEncoder is part of the interface; the runtime uses Marshal alone.
func (m marshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := m.Marshal(v)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})
}
