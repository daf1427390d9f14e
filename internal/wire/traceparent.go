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

// isHex reports whether text is hexadecimal in lower case. Its loop has no branch on a
// character: the processor would mispredict those of a random ID.
func isHex(text string) bool {
	var other uint32 // has its highest bit once a character is neither a digit nor a letter
	for i := range len(text) {
		c := text[i]
		other |= (9 - uint32(c-'0')) & (5 - uint32(c-'a'))
	}
	return other>>31 == 0
}
