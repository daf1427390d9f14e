package wirejson

import (
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/meshtrade/mesh-gateway/internal/jsontext"
)

// appendInOrder appends the JSON of a message whose fields come in the order of their declaration,
// each singular field once and each list in one run. Serializers write messages so, and such a
// message is written while it is read, without slots.
//
// It reports false if the message is not like that or has a fault. What it returns is then to be
// dropped, and [writer.message] decides.
func appendInOrder(out []byte, t *Type, wire []byte, mask *Mask, depth int) ([]byte, bool) {
	if depth == 0 {
		return out, false
	}
	if t.time {
		return appendTimeInOrder(out, wire)
	}
	out = append(out, '{')
	first := len(out)
	last := uint16(0)   // index of the last field plus one
	oneofs := uint64(0) // those that have a member
	for at := 0; at < len(wire); {
		tag := at
		index := uint16(0)
		if c := wire[at]; c < byteTags {
			index = t.tags[c]
			at++
		}
		if index == 0 {
			number, wireType, n := consumeTag(wire[tag:])
			if n < 0 {
				return out, false
			}
			at = tag + n
			if index = t.lookup(number); index == 0 {
				if n = protowire.ConsumeFieldValue(number, wireType, wire[at:]); n < 0 {
					return out, false
				}
				at += n
				continue
			}
			// A value of another wire type is a packed list or an unknown field, which are rare.
			if wireType != t.fields[index-1].wire {
				return out, false
			}
		}
		if index <= last {
			return out, false
		}
		last = index
		f := &t.fields[index-1]
		if f.oneof > 0 {
			if f.oneof > 64 || oneofs&(1<<(f.oneof-1)) != 0 {
				return out, false
			}
			oneofs |= 1 << (f.oneof - 1)
		}
		var within *Mask
		written := true
		if mask != nil {
			within, written = mask.field(int(index - 1))
		}
		before := len(out)
		key := f.key
		if before == first {
			key = key[1:]
		}
		from := at
		switch {
		case f.list:
			run := wire[tag:at]
			out = append(out, key...)
			out = append(out, '[')
			for {
				if out, at = appendValueInOrder(out, f, wire, at, within, depth); at < 0 {
					return out, false
				}
				if len(wire)-at < len(run) || string(wire[at:at+len(run)]) != string(run) {
					break
				}
				at += len(run)
				out = append(out, ',')
			}
			out = append(out, ']')
		case f.kind == kindString:
			var value []byte
			if value, at = consumeBytes(wire, at); at < 0 {
				return out, false
			}
			var ok bool
			if out, ok = appendString(out, key, value); !ok {
				return out, false
			}
			written = written && (f.presence || len(value) > 0)
		default:
			out = append(out, key...)
			if out, at = appendValueInOrder(out, f, wire, at, within, depth); at < 0 {
				return out, false
			}
			written = written && (f.presence || !defaultValue(f, wire[from:at]))
		}
		if !written {
			out = out[:before]
		}
	}
	return append(out, '}'), true
}

// appendValueInOrder appends the value at a position of the wire form and returns the position
// after it, or -1 if there is a fault.
func appendValueInOrder(out []byte, f *field, wire []byte, at int, mask *Mask, depth int) ([]byte, int) {
	if f.wire != protowire.BytesType {
		value, n := consumeNumber(f.wire, wire[at:])
		if n < 0 {
			return out, -1
		}
		return appendNumber(out, f, value), at + n
	}
	value, at := consumeBytes(wire, at)
	if at < 0 {
		return out, -1
	}
	ok := true
	switch f.kind {
	case kindMessage:
		out, ok = appendInOrder(out, f.message, value, mask, depth-1)
	case kindString:
		out, ok = appendString(out, "", value)
	default:
		out = appendBytes(out, value)
	}
	if !ok {
		return out, -1
	}
	return out, at
}

// appendString appends a key and a text. It reports false if the text is not UTF-8.
func appendString(out []byte, key string, text []byte) ([]byte, bool) {
	if !jsontext.Plain(text) {
		return appendText(append(out, key...), text), utf8.Valid(text)
	}
	at := len(out)
	out = slices.Grow(out, len(key)+len(text)+2)
	out = out[:at+len(key)+len(text)+2]
	at += copy(out[at:], key)
	out[at] = '"'
	at++
	at += copy(out[at:], text)
	out[at] = '"'
	return out, true
}

// defaultValue reports whether the wire form of a value, which is well-formed, is the default.
func defaultValue(f *field, wire []byte) bool {
	if f.wire == protowire.BytesType {
		size, _ := consumeVarint(wire) // which may take more bytes than it needs
		return size == 0
	}
	value, _ := consumeNumber(f.wire, wire)
	return isDefault(f, slot{value: value})
}

// appendTimeInOrder is appendInOrder for a timestamp.
func appendTimeInOrder(out, wire []byte) ([]byte, bool) {
	seconds, at := uint64(0), 0
	if len(wire) > 0 && wire[0] == 1<<3 {
		value, n := consumeVarint(wire[1:])
		if n < 0 {
			return out, false
		}
		seconds, at = value, 1+n
	}
	nanos := uint64(0)
	if at < len(wire) && wire[at] == 2<<3 {
		value, n := consumeVarint(wire[at+1:])
		if n < 0 {
			return out, false
		}
		nanos, at = value, at+1+n
	}
	if at < len(wire) {
		return out, false
	}
	return appendTime(out, int64(seconds), int32(nanos))
}
