package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/types/pluginpb"
)

// openAPIPlugin describes the messages. Its default error response is disabled, because it describes
// an envelope around streams that this gateway does not use.
var openAPIPlugin = plugin{name: "protoc-gen-openapiv3", parameter: "disable_default_errors=true"}

// writeOpenAPI writes the OpenAPI documents to dir. files are the documents of the plugin by name, one
// per service file.
//
// internal/codegen/openapi does most of the work. It imports the generated code, so the code must be
// written first. It is a separate program because a program that imports the code that it generates
// does not work if that code is missing or broken.
func writeOpenAPI(ctx context.Context, request *pluginpb.CodeGeneratorRequest, files map[string]string, dir string) error {
	input, err := os.MkdirTemp("", "openapi-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(input)

	merged, err := mergeOpenAPI(ctx, files, input)
	if err != nil {
		return fmt.Errorf("openapiv3-merge: %w", err)
	}
	document, sources := filepath.Join(input, "merged.json"), filepath.Join(input, "sources.binpb")
	if err := os.WriteFile(document, merged, 0o600); err != nil {
		return err
	}
	if err := writeImage(request, sources); err != nil {
		return err
	}
	overlay, err := withoutDocuments(input, dir)
	if err != nil {
		return err
	}
	return goCommand(ctx, "run", "-overlay", overlay, "github.com/meshtrade/mesh-gateway/internal/codegen/openapi",
		"-merged", document, "-sources", sources, "-out", dir).Run()
}

// mergeOpenAPI merges the documents of the plugin in the order of their names. It writes them to dir,
// because the tool reads files.
func mergeOpenAPI(ctx context.Context, files map[string]string, dir string) ([]byte, error) {
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

// withoutDocuments writes a build overlay to temp and returns its path. In this overlay, the documents
// in dir are empty. The gateway embeds the documents, and the program that writes them runs a gateway
// for their examples. It must build if the documents are missing, and must not depend on the output
// of an earlier run.
func withoutDocuments(temp, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	empty, overlay := filepath.Join(temp, "empty.json"), filepath.Join(temp, "overlay.json")
	replace := make(map[string]string)
	for _, name := range []string{"openapi.json", "openapi.sandbox.json", "swagger.json", "swagger.sandbox.json"} {
		replace[filepath.Join(dir, name)] = empty
	}
	content, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(empty, []byte("{}"), 0o600), os.WriteFile(overlay, content, 0o600))
}
