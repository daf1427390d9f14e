// Command openapi writes the OpenAPI documents. The code generator runs it after it has written the Go
// code, because this program reads the contract from the generated descriptors and records the
// examples from a sandbox.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/meshtrade/mesh-gateway/internal/codegen/apidoc"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

func main() {
	merged := flag.String("merged", "", "read the merged output of protoc-gen-openapiv3 from this `file`")
	sources := flag.String("sources", "", "read the compiled .proto files, with source info, from this `file`, a FileDescriptorSet")
	out := flag.String("out", "", "write the four documents, openapi*.json and swagger*.json, to this `folder`")
	flag.Parse()
	if err := run(context.Background(), *merged, *sources, *out); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, mergedFile, sourcesFile, out string) error {
	merged, err := os.ReadFile(mergedFile)
	if err != nil {
		return err
	}
	image, err := os.ReadFile(sourcesFile)
	if err != nil {
		return err
	}
	sources := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(image, sources); err != nil {
		return fmt.Errorf("%s: %w", sourcesFile, err)
	}
	if err := contract.Check(); err != nil {
		return err
	}
	recorded, err := record(ctx)
	if err != nil {
		return fmt.Errorf("examples: %w", err)
	}
	documents, err := apidoc.Write(sources, merged, recorded)
	if err != nil {
		return err
	}
	return errors.Join(
		write(out, "openapi.json", "swagger.json", documents.Live),
		write(out, "openapi.sandbox.json", "swagger.sandbox.json", documents.Sandbox),
	)
}

// write writes a document to out, in OpenAPI 3.1 and in Swagger 2.0.
func write(out, name, swaggerName string, document []byte) error {
	swagger, err := apidoc.Swagger2(document)
	if err != nil {
		return fmt.Errorf("%s: %w", swaggerName, err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(out, name), document, 0o644),
		os.WriteFile(filepath.Join(out, swaggerName), swagger, 0o644),
	)
}
