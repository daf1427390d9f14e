// Package proto contains the contract: the .proto files of the Mesh API with their HTTP bindings, and
// the Go code that is generated from them.
//
// `go generate ./...` writes all generated files: message types, gRPC clients and servers, gateway
// handlers and the OpenAPI documents. It works offline and uses only Go modules. The .proto files are
// the only source.
package proto

//go:generate go -C ../internal/codegen run . -proto ../../proto -openapi ../../openapi
