// Command codegen is the one code generator of this repository; go generate
// runs it. It compiles proto/meshtrade/** with protocompile and feeds the
// result to the protoc plugins pinned as tools in go.mod, so that neither
// protoc nor a schema registry is needed and the network is never used.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/meshtrade/mesh-gateway/internal/apidoc"
)

func main() {
	protoDir := flag.String("proto", ".", "folder that holds meshtrade/**.proto; Go is written beside each file")
	openAPI := flag.String("openapi", "", "folder that the OpenAPI document, openapi.json, and what Swagger 2.0 can say of it, swagger.json, are written to")
	image := flag.String("image", "", "write the compiled contract to this file, as the descriptor set that buf reads, and generate nothing")
	flag.Parse()
	var err error
	if *image != "" {
		err = writeImage(context.Background(), *protoDir, *image)
	} else {
		err = run(context.Background(), *protoDir, *openAPI)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "codegen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, protoDir, openAPI string) error {
	if openAPI == "" {
		return errors.New("-openapi: no folder given")
	}
	request, err := compile(ctx, protoDir)
	if err != nil {
		return err
	}

	plugins := []plugin{
		{name: "protoc-gen-go", parameter: "paths=source_relative"},
		{name: "protoc-gen-go-grpc", parameter: "paths=source_relative"},
		{name: "protoc-gen-grpc-gateway", parameter: "paths=source_relative"},
		openAPIPlugin(),
	}
	outputs := make([]map[string]string, len(plugins))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, p := range plugins {
		group.Go(func() (err error) {
			outputs[i], err = p.run(groupCtx, request)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}

	services, err := servicesList(request)
	if err != nil {
		return err
	}
	if err := removeGenerated(protoDir); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(protoDir, "services_gen.go"), services, 0o644); err != nil {
		return err
	}
	last := len(outputs) - 1
	for _, files := range outputs[:last] {
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(protoDir, filepath.FromSlash(name)), []byte(content), 0o644); err != nil {
				return err
			}
		}
	}
	if err := embeddable(openAPI); err != nil {
		return err
	}
	document, err := openAPIDocument(ctx, request, outputs[last])
	if err != nil {
		return err
	}
	swagger, err := apidoc.Swagger2(document)
	if err != nil {
		return fmt.Errorf("swagger: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(openAPI, "openapi.json"), document, 0o644),
		os.WriteFile(filepath.Join(openAPI, "swagger.json"), swagger, 0o644),
	)
}

// embeddable makes sure that there are documents for the gateway to embed: one
// that runs gives the next ones their examples.
func embeddable(openAPI string) error {
	for _, name := range []string{"openapi.json", "swagger.json"} {
		file, err := os.OpenFile(filepath.Join(openAPI, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := file.WriteString("{}"); err != nil {
			return errors.Join(err, file.Close())
		}
		if err := file.Close(); err != nil {
			return err
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

// goCommand runs go, from which the tools pinned in go.mod come too.
func goCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	return cmd
}

// plugin is a protoc plugin: a program that reads a CodeGeneratorRequest on
// standard input and writes a CodeGeneratorResponse to standard output.
type plugin struct{ name, parameter string }

// run returns the generated files by name.
func (p plugin) run(ctx context.Context, request *pluginpb.CodeGeneratorRequest) (map[string]string, error) {
	response, err := p.exchange(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	files := make(map[string]string, len(response.GetFile()))
	for _, file := range response.GetFile() {
		files[file.GetName()] = file.GetContent()
	}
	return files, nil
}
