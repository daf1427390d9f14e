package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/types/pluginpb"

	"github.com/meshtrade/mesh-gateway/internal/apidoc"
	"github.com/meshtrade/mesh-gateway/internal/tour"
)

// openAPIPlugin describes the messages. Its own error response goes with an
// envelope around streams that this gateway does not send.
func openAPIPlugin() plugin {
	return plugin{name: "protoc-gen-openapiv3", parameter: "disable_default_errors=true"}
}

// openAPIDocument makes one document of those that the plugin wrote. It runs
// what is generated, so that must be written by now.
func openAPIDocument(ctx context.Context, request *pluginpb.CodeGeneratorRequest, files map[string]string) ([]byte, error) {
	merged, err := mergeOpenAPI(ctx, files)
	if err != nil {
		return nil, fmt.Errorf("openapiv3-merge: %w", err)
	}
	recorded, err := recordExamples(ctx)
	if err != nil {
		return nil, fmt.Errorf("examples: %w", err)
	}
	document, err := apidoc.Write(request, merged, recorded)
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	return document, nil
}

// recordExamples is a program of its own: one that imported the code it
// generates could not run while that code is missing or broken.
func recordExamples(ctx context.Context) ([]tour.Recording, error) {
	output, err := goCommand(ctx, "run", "github.com/meshtrade/mesh-gateway/internal/codegen/record").Output()
	if err != nil {
		return nil, err
	}
	var recorded []tour.Recording
	return recorded, json.Unmarshal(output, &recorded)
}

// mergeOpenAPI joins the plugin's documents, one per service file, in the
// order of their names.
func mergeOpenAPI(ctx context.Context, files map[string]string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "openapi-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	var paths []string
	for i, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, fmt.Sprintf("%03d.json", i))
		if err := os.WriteFile(path, []byte(files[name]), 0o600); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return goCommand(ctx, append([]string{"tool", "openapiv3-merge"}, paths...)...).Output()
}
