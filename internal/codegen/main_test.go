package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestImportsNothingOfThisRepository checks that the generator works if the code that it generates is
// missing or broken.
func TestImportsNothingOfThisRepository(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module, generator = "github.com/meshtrade/mesh-gateway", "github.com/meshtrade/mesh-gateway/internal/codegen"
	packages := strings.Fields(string(output))
	if !slices.Contains(packages, generator) {
		t.Fatalf("go list does not list %s", generator)
	}
	for _, name := range packages {
		if strings.HasPrefix(name, module) && name != generator {
			t.Errorf("the generator imports %s", name)
		}
	}
}

func TestWriteGo(t *testing.T) {
	dir := write(t, map[string]string{
		"a/kept.proto":       "proto",
		"a/kept.go":          "by hand",
		"a/changed.pb.go":    "old",
		"a/stale.pb.go":      "old",
		"a/stale.pb.gw.go":   "old",
		"a/stale_grpc.pb.go": "old",
		"stale_gen.go":       "old",
	})
	if err := writeGo(dir, []map[string]string{{"a/changed.pb.go": "new"}, {"services_gen.go": "new"}}); err != nil {
		t.Fatal(err)
	}
	want := []string{"a/changed.pb.go: new", "a/kept.go: by hand", "a/kept.proto: proto", "services_gen.go: new"}
	if got := read(t, dir); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// write writes the files to a temporary folder and returns its path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// read returns the files below dir as "name: content", sorted by name.
func read(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	if err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files = append(files, filepath.ToSlash(name)+": "+string(content))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return files
}
