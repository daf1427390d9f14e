package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	// The contract imports these files. Their descriptors come from
	// protoregistry.GlobalFiles, so there is no copy of the files here.
	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/type/date"
)

// compile compiles every .proto file below dir and returns the request that protoc would send to its
// plugins: all files in dependency order, with source comments.
func compile(ctx context.Context, dir string) (*pluginpb.CodeGeneratorRequest, error) {
	tree := os.DirFS(dir)
	var names []string
	if err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && path.Ext(name) == ".proto" {
			names = append(names, name)
		}
		return err
	}); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no .proto file below %s", dir)
	}

	compiler := protocompile.Compiler{
		Resolver: protocompile.CompositeResolver{
			&protocompile.SourceResolver{ImportPaths: []string{dir}},
			protocompile.ResolverFunc(linkedDescriptor),
		},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}

	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: names}
	seen := make(map[string]bool)
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		request.ProtoFile = append(request.ProtoFile, protoutil.ProtoFromFileDescriptor(file))
	}
	for _, file := range sorted(files) {
		add(file)
	}
	return request, nil
}

// writeImage writes all files of the request to one descriptor set, including imports and source
// comments. buf reads it, because buf cannot resolve imports from Go modules.
func writeImage(request *pluginpb.CodeGeneratorRequest, file string) error {
	image, err := proto.MarshalOptions{Deterministic: true}.Marshal(&descriptorpb.FileDescriptorSet{File: request.GetProtoFile()})
	if err != nil {
		return err
	}
	return os.WriteFile(file, image, 0o644)
}

// sorted sorts the files, so that the output does not depend on the order of the walk.
func sorted(files linker.Files) linker.Files {
	return slices.SortedFunc(slices.Values(files), func(a, b linker.File) int {
		return bytes.Compare([]byte(a.Path()), []byte(b.Path()))
	})
}

// linkedDescriptor resolves an import from the descriptors that are linked into this program.
func linkedDescriptor(name string) (protocompile.SearchResult, error) {
	file, err := protoregistry.GlobalFiles.FindFileByPath(name)
	if err != nil {
		return protocompile.SearchResult{}, err
	}
	return protocompile.SearchResult{Desc: file}, nil
}
