package main

import (
	"context"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/meshtrade/mesh-gateway/proto"
)

// newStock returns grpc-gateway as it comes: its mux and the generated handlers of all
// services, with no middleware. Two options differ from the defaults, so that it does the
// same as the others: fields at their default are left out of answers, and the credentials
// are forwarded.
func newStock(upstream string) (http.Handler, error) {
	conn, err := dial(upstream)
	if err != nil {
		return nil, err
	}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{
			Marshaler: &runtime.JSONPb{
				MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: false},
				UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
			},
		}),
		runtime.WithIncomingHeaderMatcher(func(header string) (string, bool) {
			switch header {
			case "X-Api-Key":
				return apiKeyMetadata, true
			case "X-Group":
				return groupMetadata, true
			}
			return runtime.DefaultHeaderMatcher(header)
		}),
	)
	for _, service := range proto.Services() {
		if err := service.RegisterHandlers(context.Background(), mux, conn); err != nil {
			return nil, err
		}
	}
	return mux, nil
}
