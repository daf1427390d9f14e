package gateway

import (
	"bytes"
	"context"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// lines writes a stream as NDJSON: a JSON message a line. An error is the last line,
// {"error": google.rpc.Status}.
type lines struct{ out *timedWriter }

func (l *lines) open() error { return l.out.open(wire.NDJSON) }

func (l *lines) message(json []byte, more bool) error {
	return l.out.write(append(json, '\n'), more)
}

// keepAlive does nothing: NDJSON has no comments.
func (l *lines) keepAlive(context.Context) error { return nil }

func (l *lines) end() error { return nil }

func (l *lines) fail(st *spb.Status) error {
	line := append([]byte(`{"error":`), bytes.TrimSpace(apierror.Marshal(st, l.out.requestID()))...)
	return l.out.write(append(line, "}\n"...), false)
}
