package main

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// fileWith returns a file with services in the Go package goPackage.
func fileWith(name, goPackage string, services ...string) *descriptorpb.FileDescriptorProto {
	file := &descriptorpb.FileDescriptorProto{
		Name:    proto.String(name),
		Options: &descriptorpb.FileOptions{GoPackage: proto.String(goPackage)},
	}
	for _, service := range services {
		file.Service = append(file.Service, &descriptorpb.ServiceDescriptorProto{Name: proto.String(service)})
	}
	return file
}

func TestServicesList(t *testing.T) {
	list, err := servicesList(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{"a/v1/a.proto", "b/v1/b.proto"},
		ProtoFile: []*descriptorpb.FileDescriptorProto{
			fileWith("imported.proto", "example.com/imported", "ImportedService"),
			fileWith("a/v1/a.proto", "example.com/a/v1;av1", "FirstService", "SecondService"),
			fileWith("b/v1/b.proto", "example.com/b/v1"), // without services
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`av1 "example.com/a/v1"`,
		`av1.File_a_v1_a_proto.Services().Get(0)`,
		`av1.RegisterFirstServiceHandlerClient(ctx, mux, av1.NewFirstServiceClient(conn))`,
		`av1.File_a_v1_a_proto.Services().Get(1)`,
		`av1.RegisterSecondServiceHandlerClient(ctx, mux, av1.NewSecondServiceClient(conn))`,
	} {
		if strings.Count(list, want) != 1 {
			t.Errorf("want %s exactly once in:\n%s", want, list)
		}
	}
	for _, unwanted := range []string{"imported", "example.com/b/v1"} {
		if strings.Contains(list, unwanted) {
			t.Errorf("want no %s in:\n%s", unwanted, list)
		}
	}
}

func TestServicesListRequiresAPackageName(t *testing.T) {
	_, err := servicesList(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{"a.proto"},
		ProtoFile:      []*descriptorpb.FileDescriptorProto{fileWith("a.proto", "example.com/a", "AService")},
	})
	if err == nil || !strings.Contains(err.Error(), "a.proto: go_package") {
		t.Errorf("%v, want an error about go_package in a.proto", err)
	}
}
