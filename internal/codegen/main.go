// Command codegen is the code generator of this repository. go generate runs it. It compiles
// proto/meshtrade/** with protocompile and passes the result to protoc plugins, which are pinned as
// tools in go.mod. It needs neither protoc nor a schema registry, and works offline.
//
// It imports no other package of this repository, so it also works if the generated code is missing
// or broken. After it has written the code, it runs a second program that needs this code,
// internal/codegen/openapi, which writes the OpenAPI documents.
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
	protoDir := flag.String("proto", ".", "folder with meshtrade/**.proto; the Go code is written next to each file")
	openAPI := flag.String("openapi", "", "folder to write openapi.json and swagger.json (Swagger 2.0) to")
	image := flag.String("image", "", "only write the compiled contract to this file, as a descriptor set for buf")
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

// generate runs the plugins, and writes their output if all of them succeed. Then it runs the program
// that needs the generated code.
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

// writeGo replaces the generated Go code below dir with files, whose names are relative to dir.
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

// removeGenerated deletes the output of earlier runs, including files whose .proto file no longer
// exists.
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
