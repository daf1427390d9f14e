package gateway

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
)

// allowList holds the only request headers that become upstream metadata, each
// under its own name in lower case.
type allowList []string

func forwardedHeaders(more []string) allowList {
	list := allowList{"x-api-key", "x-group", "x-request-id", "traceparent", "tracestate"}
	for _, name := range more {
		list = append(list, strings.ToLower(name))
	}
	return list
}

// match is the runtime's header matcher.
func (l allowList) match(header string) (string, bool) {
	header = strings.ToLower(header)
	return header, slices.Contains(l, header)
}

// noHeader keeps upstream metadata from becoming response headers: none of it
// is part of the HTTP API.
func noHeader(string) (string, bool) { return "", false }

// traceparent is the field's form in W3C Trace Context, version 00.
var traceparent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// only rebuilds the outgoing metadata from the allow-list. The matcher
// alone is not enough: the runtime adds Authorization, X-Forwarded-For and
// X-Forwarded-Host of its own accord. A field sent twice is dropped, since an
// upstream that reads the other one would see a different caller.
func (l allowList) only(ctx context.Context) context.Context {
	given, _ := metadata.FromOutgoingContext(ctx)
	kept := metadata.MD{}
	for _, name := range l {
		if values := given.Get(name); len(values) == 1 {
			kept.Set(name, values[0])
		}
	}
	if values := kept.Get("traceparent"); len(values) == 0 || !traceparent.MatchString(values[0]) {
		kept.Delete("traceparent")
		kept.Delete("tracestate") // meaningless alone
	}
	return metadata.NewOutgoingContext(ctx, kept)
}
