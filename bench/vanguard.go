package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/meshtrade/mesh-gateway/proto"
)

// newVanguard returns vanguard as its documentation sets it up in front of a gRPC backend:
// a transcoder over a reverse proxy that speaks HTTP/2 without TLS. Fields at their default
// are left out of answers, as the others do. The proxy forwards all headers, so the
// credentials need nothing.
//
// Vanguard's REST has no server streams, but for google.api.HttpBody.
func newVanguard(upstream string) (http.Handler, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: upstream})
		},
		Transport:     &http.Transport{Protocols: &protocols, DisableCompression: true},
		FlushInterval: -1,
		BufferPool:    &copyBuffers{sync.Pool{New: func() any { return new([copyBufferSize]byte) }}},
		ErrorLog:      log.Default(),
	}
	var services []*vanguard.Service
	for _, service := range proto.Services() {
		services = append(services, vanguard.NewServiceWithSchema(service.Descriptor, proxy))
	}
	return vanguard.NewTranscoder(services,
		vanguard.WithDefaultServiceOptions(
			vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
			vanguard.WithTargetCodecs(vanguard.CodecProto),
			vanguard.WithNoTargetCompression(),
		),
		vanguard.WithCodec(func(resolver vanguard.TypeResolver) vanguard.Codec {
			return vanguard.JSONCodec{
				MarshalOptions:   protojson.MarshalOptions{Resolver: resolver},
				UnmarshalOptions: protojson.UnmarshalOptions{Resolver: resolver, DiscardUnknown: true},
			}
		}),
	)
}

// copyBufferSize is that of a ReverseProxy without a pool.
const copyBufferSize = 32 << 10

// copyBuffers is a [httputil.BufferPool]. Without one a ReverseProxy allocates 32 KiB for
// each answer.
type copyBuffers struct{ pool sync.Pool }

func (b *copyBuffers) Get() []byte { return b.pool.Get().(*[copyBufferSize]byte)[:] }

func (b *copyBuffers) Put(buffer []byte) { b.pool.Put((*[copyBufferSize]byte)(buffer)) }
