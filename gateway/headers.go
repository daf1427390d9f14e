package gateway

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// forwardedHeader is a request header that becomes upstream metadata.
type forwardedHeader struct {
	name string // in the form of net/http
	key  string // of the metadata: the name in lower case
}

// headerList holds the only request headers that become upstream metadata.
type headerList []forwardedHeader

func forwardedHeaders(more []string) headerList {
	names := append([]string{wire.APIKeyHeader, wire.GroupHeader, wire.RequestIDHeader, wire.TraceparentHeader, wire.TracestateHeader}, more...)
	list := make(headerList, len(names))
	for i, name := range names {
		list[i] = forwardedHeader{http.CanonicalHeaderKey(name), strings.ToLower(name)}
	}
	return list
}

// metadata returns what is sent upstream for the headers. A header that was sent
// twice is dropped: an upstream that reads the other value would see a different
// caller.
func (l headerList) metadata(header http.Header) metadata.MD {
	md := make(metadata.MD, len(l))
	for _, forwarded := range l {
		if values := header[forwarded.name]; len(values) == 1 {
			md[forwarded.key] = values
		}
	}
	if values := md["traceparent"]; values == nil || wire.TraceID(values[0]) == "" {
		delete(md, "traceparent")
		delete(md, "tracestate") // meaningless alone
	}
	return md
}

// noHeader is the header matcher that matches nothing.
func noHeader(string) (string, bool) { return "", false }
