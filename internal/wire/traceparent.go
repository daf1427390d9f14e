package wire

// TraceID returns the id of the trace in a traceparent of version 00 (W3C Trace Context), or "" if it
// is not one.
func TraceID(traceparent string) string {
	const form = "00-TTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTT-PPPPPPPPPPPPPPPP-FF"
	if len(traceparent) != len(form) {
		return ""
	}
	for i := range len(form) {
		c := traceparent[i]
		switch form[i] {
		case '0', '-':
			if c != form[i] {
				return ""
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return ""
			}
		}
	}
	return traceparent[len("00-"):][:32]
}
