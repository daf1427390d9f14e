package gateway

import (
	"context"
	"net/http"
	"regexp"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// headerList holds the only request headers that become upstream metadata, in the
// form of net/http. Each is sent under its own name in lower case.
type headerList []string

func forwardedHeaders(more []string) headerList {
	list := headerList{wire.APIKeyHeader, wire.GroupHeader, wire.RequestIDHeader, wire.TraceparentHeader, wire.TracestateHeader}
	for _, name := range more {
		list = append(list, http.CanonicalHeaderKey(name))
	}
	return list
}

// traceparent is the form of the field in W3C Trace Context, version 00.
var traceparent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// metadata returns what is sent upstream for the headers. A header that was sent
// twice is dropped: an upstream that reads the other value would see a different
// caller.
func (l headerList) metadata(header http.Header) metadata.MD {
	md := make(metadata.MD, len(l))
	for _, name := range l {
		if values := header[name]; len(values) == 1 {
			md[strings.ToLower(name)] = values
		}
	}
	if values := md["traceparent"]; values == nil || !traceparent.MatchString(values[0]) {
		delete(md, "traceparent")
		delete(md, "tracestate") // meaningless alone
	}
	return md
}

type metadataKey struct{}

// withMetadata keeps the metadata of the call until the connection sends it. The
// runtime would replace outgoing metadata that is set already, and it always adds
// Authorization, X-Forwarded-For and X-Forwarded-Host.
func withMetadata(ctx context.Context, md metadata.MD) context.Context {
	return context.WithValue(ctx, metadataKey{}, md)
}

// outgoing returns the context of a call with its metadata alone.
func outgoing(ctx context.Context) context.Context {
	md, _ := ctx.Value(metadataKey{}).(metadata.MD)
	return metadata.NewOutgoingContext(ctx, md)
}

// noHeader is the header matcher that matches nothing.
func noHeader(string) (string, bool) { return "", false }
