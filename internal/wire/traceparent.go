package wire

// TraceID returns the id of the trace in a traceparent of version 00 (W3C Trace Context), or "" if it
// is not one.
func TraceID(traceparent string) string {
	const form = "00-TTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTT-PPPPPPPPPPPPPPPP-FF"
	if len(traceparent) != len(form) || traceparent[:3] != "00-" || traceparent[35] != '-' || traceparent[52] != '-' {
		return ""
	}
	trace, parent, flags := traceparent[3:35], traceparent[36:52], traceparent[53:]
	if !isHex(trace) || !isHex(parent) || !isHex(flags) {
		return ""
	}
	return trace
}

// isHex reports whether text is hexadecimal in lower case.
func isHex(text string) bool {
	for i := range len(text) {
		if c := text[i]; c-'0' > 9 && c-'a' > 5 {
			return false
		}
	}
	return true
}
