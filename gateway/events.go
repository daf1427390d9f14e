package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// events writes a stream as server-sent events (HTML standard, section 9.2):
//
//	event: message   a message of the stream; its id is a hash of it
//	event: error     the stream failed; data is a google.rpc.Status
//	event: end       the stream ended well
type events struct {
	out *timedWriter
	// seen is the id of the last message that the client has.
	seen  string
	later bool   // the first message is out
	event []byte // the buffer of the events with messages
}

// retry is the time after which a browser that lost the stream connects again, in
// milliseconds.
const retry = "retry: 2000\n\n"

func (e *events) open() error {
	e.out.w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	if err := e.out.open(wire.EventStream); err != nil {
		return err
	}
	return e.out.write([]byte(retry), true)
}

func (e *events) message(json []byte, more bool) error {
	sum := sha256.Sum256(json)
	id := hex.EncodeToString(sum[:8])
	first := !e.later
	e.later = true
	if first && id == e.seen {
		return e.out.write([]byte(": seen\n\n"), more) // a client that connects again has it
	}
	e.event = append(append(e.event[:0], "id: "...), id...)
	e.event = append(append(e.event, "\nevent: message\ndata: "...), json...)
	e.event = append(e.event, "\n\n"...)
	return e.out.write(e.event, more)
}

func (e *events) keepAlive(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	return e.out.write([]byte(": keep-alive\n\n"), false)
}

func (e *events) end() error { return e.out.write([]byte("event: end\ndata: {}\n\n"), false) }

func (e *events) fail(st *spb.Status) error {
	event := append([]byte("event: error\ndata: "), bytes.TrimSpace(apierror.Marshal(st, e.out.requestID()))...)
	return e.out.write(append(event, "\n\n"...), false)
}
