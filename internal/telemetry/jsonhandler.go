package telemetry

import (
	"bytes"
	"context"
	"encoding"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/jsontext"
)

// jsonHandler writes what [slog.JSONHandler] writes, in about a third of its time. It knows plain
// records only, such as those of requests, and leaves the others to [slog.JSONHandler]: those with
// groups, with values other than texts, numbers, booleans, addresses and callers, and with texts that
// need escaping.
type jsonHandler struct {
	slog.Handler // for the other records

	to      io.Writer
	buffers *sync.Pool
	// attrs are those of WithAttrs, each with a comma before it.
	attrs []byte
}

// newJSONHandler returns a handler that writes each record to the writer in one call.
func newJSONHandler(to io.Writer, level slog.Leveler) slog.Handler { //nolint:misspell // a name of slog
	return &jsonHandler{
		Handler: slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level}), to: to,
		buffers: &sync.Pool{New: func() any { return new(make([]byte, 0, 1024)) }},
	}
}

// WithAttrs implements [slog.Handler].
func (h *jsonHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.Handler = h.Handler.WithAttrs(attrs)
	with.attrs = h.attrs[:len(h.attrs):len(h.attrs)]
	for _, attr := range attrs {
		var plain bool
		if with.attrs, plain = appendAttr(with.attrs, attr); !plain {
			return with.Handler
		}
	}
	return &with
}

// Handle implements [slog.Handler].
func (h *jsonHandler) Handle(ctx context.Context, record slog.Record) error {
	attrs := make([]slog.Attr, 0, record.NumAttrs())
	record.Attrs(func(attr slog.Attr) bool {
		attrs = append(attrs, attr)
		return true
	})
	if ok, err := h.write(record.Time, record.Level, record.Message, attrs); ok {
		return err
	}
	return h.Handler.Handle(ctx, record)
}

// write writes a record. It reports false if the record is not plain, and writes nothing then.
func (h *jsonHandler) write(at time.Time, level slog.Level, message string, attrs []slog.Attr) (ok bool, err error) {
	buffer, ok := h.buffers.Get().(*[]byte)
	if !ok || at.IsZero() || at.Year() >= 10000 {
		return false, nil
	}
	defer h.buffers.Put(buffer)
	line := append((*buffer)[:0], `{"time":"`...)
	line = at.AppendFormat(line, time.RFC3339Nano)
	line = append(line, `","level":"`...)
	line = append(line, level.String()...)
	line = append(line, `","msg":`...)
	line, plain := appendText(line, message)
	line = append(line, h.attrs...)
	for i := 0; plain && i < len(attrs); i++ {
		line, plain = appendAttr(line, attrs[i])
	}
	if plain {
		line = append(line, "}\n"...)
	}
	*buffer = line
	if !plain {
		return false, nil
	}
	_, err = h.to.Write(line)
	return true, err
}

// HandleAttrs has a handler handle a record of these attributes. Unlike a [slog.Record], it does not
// copy them for a handler of [NewHandler] that writes JSON. They may be changed afterwards.
func HandleAttrs(ctx context.Context, handler slog.Handler, at time.Time, level slog.Level, message string, attrs []slog.Attr) error {
	if plain, ok := handler.(*jsonHandler); ok {
		if ok, err := plain.write(at, level, message, attrs); ok {
			return err
		}
	}
	// Without the line of code that a Logger adds, which no handler here writes.
	record := slog.NewRecord(at, level, message, 0)
	record.AddAttrs(attrs...)
	return handler.Handle(ctx, record)
}

// appendAttr appends a comma and the attribute. It reports false if it is not plain.
func appendAttr(line []byte, attr slog.Attr) (_ []byte, plain bool) {
	if attr.Key == "" {
		return line, false
	}
	line, plain = appendText(append(line, ','), attr.Key)
	if !plain {
		return line, false
	}
	line = append(line, ':')
	switch attr.Value.Kind() {
	case slog.KindString:
		return appendText(line, attr.Value.String())
	case slog.KindInt64:
		return strconv.AppendInt(line, attr.Value.Int64(), 10), true
	case slog.KindUint64:
		return strconv.AppendUint(line, attr.Value.Uint64(), 10), true
	case slog.KindBool:
		return strconv.AppendBool(line, attr.Value.Bool()), true
	case slog.KindFloat64:
		// encoding/json writes others with an exponent.
		value := attr.Value.Float64()
		if size := math.Abs(value); value != 0 && !(size >= 1e-6 && size < 1e21) {
			return line, false
		}
		return appendFloat(line, value), true
	case slog.KindAny:
		return appendAny(line, attr.Value.Any())
	default:
		return line, false
	}
}

// appendAny appends a value of the records of requests that has a text. It needs no string of it.
func appendAny(line []byte, value any) (_ []byte, plain bool) {
	var text encoding.TextAppender
	switch value := value.(type) {
	case *Caller:
		text = value
	case *netip.Addr:
		text = value
	default:
		return line, false
	}
	line = append(line, '"')
	begin := len(line)
	line, err := text.AppendText(line)
	return append(line, '"'), err == nil && jsontext.Plain(line[begin:])
}

// appendText appends a text in quotes. It reports false if a character of it needs escaping, or is not
// ASCII.
func appendText(line []byte, text string) (_ []byte, plain bool) {
	line = append(line, '"')
	begin := len(line)
	line = append(line, text...)
	return append(line, '"'), jsontext.Plain(line[begin:])
}

// appendFloat appends a number as encoding/json does, if it writes it without an exponent. Those with
// three decimal places, such as milliseconds, are formatted as whole numbers, in a fifth of the time.
func appendFloat(line []byte, value float64) []byte {
	const most = 1 << 40 // times 1000, it is exact in a float64
	thousandths := math.Round(value * 1000)
	if math.Signbit(value) || value > most || thousandths/1000 != value {
		return strconv.AppendFloat(line, value, 'f', -1, 64)
	}
	whole := uint64(thousandths)
	line = strconv.AppendUint(line, whole/1000, 10)
	if rest := whole % 1000; rest != 0 {
		line = append(line, '.', '0'+byte(rest/100), '0'+byte(rest/10%10), '0'+byte(rest%10))
		line = bytes.TrimRight(line, "0")
	}
	return line
}
