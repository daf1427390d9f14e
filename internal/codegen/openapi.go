package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/types/pluginpb"
)

// openAPIDocument describes the contract as one OpenAPI document. The plugin
// knows the messages; what it leaves open, or says for another gateway than
// ours, is read from the descriptors and finished here.
func openAPIDocument(ctx context.Context, request *pluginpb.CodeGeneratorRequest) ([]byte, error) {
	operations, err := readOperations(request)
	if err != nil {
		return nil, err
	}
	// The plugin's own error response goes with an envelope around streams that
	// this gateway does not send.
	files, err := plugin{name: "protoc-gen-openapiv3", parameter: "disable_default_errors=true"}.run(ctx, request)
	if err != nil {
		return nil, err
	}
	merged, err := mergeOpenAPI(ctx, files)
	if err != nil {
		return nil, fmt.Errorf("openapiv3-merge: %w", err)
	}

	var document openAPI
	if err := json.Unmarshal(merged, &document); err != nil {
		return nil, err
	}
	if err := document.finish(operations); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
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
	return goTool(ctx, "openapiv3-merge", paths...).Output()
}
