// Command codegen is the one code generator of this repository; go generate
// runs it. It compiles proto/meshtrade/** with protocompile and feeds the
// result to the protoc plugins pinned as tools in go.mod, so that neither
// protoc nor a schema registry is needed and the network is never used.
//
// It imports no other package of this repository, so that it also runs while the
// generated code is missing or broken. What needs that code, the OpenAPI
// documents, is left to a second program, internal/codegen/openapi, which it
// runs after it has written the code.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	protoDir := flag.String("proto", ".", "folder that holds meshtrade/**.proto; Go is written beside each file")
	openAPI := flag.String("openapi", "", "folder that openapi.json and its Swagger 2.0 form, swagger.json, are written to")
	image := flag.String("image", "", "write the compiled contract to this file, as the descriptor set that buf reads, and generate nothing")
	flag.Parse()
	if err := run(context.Background(), *protoDir, *openAPI, *image); err != nil {
		fmt.Fprintln(os.Stderr, "codegen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, protoDir, openAPI, image string) error {
	if image == "" && openAPI == "" {
		return errors.New("-openapi: no folder given")
	}
	request, err := compile(ctx, protoDir)
	if err != nil {
		return err
	}
	if image != "" {
		return writeImage(request, image)
	}
	return generate(ctx, request, protoDir, openAPI)
}

// generate runs the plugins, all of which must succeed before anything is
// written, and then the program that needs what they generate.
func generate(ctx context.Context, request *pluginpb.CodeGeneratorRequest, protoDir, openAPI string) error {
	goPlugins := []plugin{
		{name: "protoc-gen-go", parameter: "paths=source_relative"},
		{name: "protoc-gen-go-grpc", parameter: "paths=source_relative"},
		{name: "protoc-gen-grpc-gateway", parameter: "paths=source_relative"},
	}
	goFiles := make([]map[string]string, len(goPlugins))
	var openAPIFiles map[string]string
	group, groupCtx := errgroup.WithContext(ctx)
	for i, p := range goPlugins {
		group.Go(func() (err error) {
			goFiles[i], err = p.run(groupCtx, request)
			return err
		})
	}
	group.Go(func() (err error) {
		openAPIFiles, err = openAPIPlugin.run(groupCtx, request)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	services, err := servicesList(request)
	if err != nil {
		return err
	}

	if err := writeGo(protoDir, append(goFiles, map[string]string{"services_gen.go": services})); err != nil {
		return err
	}
	if err := writeOpenAPI(ctx, request, openAPIFiles, openAPI); err != nil {
		return fmt.Errorf("openapi: %w", err)
	}
	return nil
}

// writeGo replaces the generated Go code below dir with files, by their paths
// from there.
func writeGo(dir string, outputs []map[string]string) error {
	if err := removeGenerated(dir); err != nil {
		return err
	}
	for _, files := range outputs {
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(content), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeGenerated deletes what earlier runs wrote, so that a file whose .proto
// is gone does not linger.
func removeGenerated(protoDir string) error {
	return filepath.WalkDir(protoDir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		for _, pattern := range []string{"*.pb.go", "*.pb.gw.go", "*_gen.go"} {
			if match, _ := filepath.Match(pattern, entry.Name()); match {
				return os.Remove(path)
			}
		}
		return nil
	})
}
