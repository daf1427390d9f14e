package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugin is a protoc plugin: a program that reads a CodeGeneratorRequest from standard input and
// writes a CodeGeneratorResponse to standard output.
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

// exchange runs the plugin once.
func (p plugin) exchange(ctx context.Context, request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	request = proto.CloneOf(request)
	request.Parameter = proto.String(p.parameter)
	input, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := goCommand(ctx, "tool", p.name)
	cmd.Stdin = bytes.NewReader(input)
	output, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(output, response); err != nil {
		return nil, err
	}
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	return response, nil
}

// goCommand returns a command that runs go. The plugins are Go tools pinned in go.mod.
func goCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	return cmd
}
