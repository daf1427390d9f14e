// Package proto holds the contract: the Mesh API as protobuf with its HTTP
// bindings, and beside each file the Go generated from it.
//
// `go generate ./...` rewrites everything that is generated, offline and from
// Go modules alone: message types, gRPC clients and servers, gateway handlers
// and the OpenAPI document. The .proto files are the only source.
package proto

//go:generate go -C ../internal/codegen run . -proto ../../proto -openapi ../../openapi
