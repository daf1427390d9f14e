package wire

import "google.golang.org/grpc/metadata"

// First returns the first value of a header in the metadata of a call, or "" if there is none.
func First(md metadata.MD, header string) string {
	if values := md.Get(header); len(values) > 0 {
		return values[0]
	}
	return ""
}
