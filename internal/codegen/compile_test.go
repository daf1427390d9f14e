package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

func TestCompile(t *testing.T) {
	dir := write(t, map[string]string{
		"a/first.proto": `syntax = "proto3"; package a; import "b/second.proto"; import "google/type/date.proto";
			// A comment.
			message First { b.Second second = 1; google.type.Date date = 2; }`,
		"b/second.proto": `syntax = "proto3"; package b; message Second {}`,
		"b/ignored.txt":  `not proto`,
	})
	request, err := compile(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := request.GetFileToGenerate(), []string{"a/first.proto", "b/second.proto"}; !slices.Equal(got, want) {
		t.Errorf("files to generate: %q, want %q", got, want)
	}
	files := make(map[string]*descriptorpb.FileDescriptorProto)
	var order []string
	for _, file := range request.GetProtoFile() {
		files[file.GetName()] = file
		order = append(order, file.GetName())
	}
	// Plugins require that the imports of a file come before it.
	if want := []string{"b/second.proto", "google/type/date.proto", "a/first.proto"}; !slices.Equal(order, want) {
		t.Fatalf("files: %q, want %q", order, want)
	}
	commented := func(location *descriptorpb.SourceCodeInfo_Location) bool {
		return location.GetLeadingComments() == " A comment.\n"
	}
	if !slices.ContainsFunc(files["a/first.proto"].GetSourceCodeInfo().GetLocation(), commented) {
		t.Error("the comment is missing")
	}
}

func TestCompileFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"no file", map[string]string{"a/readme.txt": ""}, "no .proto file below"},
		{"a syntax error", map[string]string{"a/a.proto": "syntax = \"proto3\";\nmesage A {}"}, "a/a.proto:2:1"},
		{"an import that is not there", map[string]string{"a/a.proto": `syntax = "proto3"; import "b/b.proto";`}, "b/b.proto"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := compile(t.Context(), write(t, test.files)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestImageHasImports(t *testing.T) {
	dir := write(t, map[string]string{"a.proto": `syntax = "proto3"; import "google/type/date.proto"; message A { google.type.Date date = 1; }`})
	image := filepath.Join(t.TempDir(), "image.binpb")
	if err := run(t.Context(), dir, "", image); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(content, set); err != nil {
		t.Fatal(err)
	}
	if _, err := protodesc.NewFiles(set); err != nil || len(set.GetFile()) != 2 {
		t.Errorf("%d files (%v), want a.proto and its import", len(set.GetFile()), err)
	}
}

// TestAFailedRunWritesNothing uses a contract that does not compile.
func TestAFailedRunWritesNothing(t *testing.T) {
	dir := write(t, map[string]string{"a/a.proto": `syntax = "proto3"; message`, "a/a.pb.go": "old"})
	before := read(t, dir)
	if err := run(t.Context(), dir, dir, ""); err == nil {
		t.Error("no error")
	}
	if err := run(t.Context(), dir, "", filepath.Join(dir, "image.binpb")); err == nil {
		t.Error("no error for an image")
	}
	if after := read(t, dir); !slices.Equal(before, after) {
		t.Errorf("files = %q, want %q", after, before)
	}
}
