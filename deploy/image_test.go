package deploy_test

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// Git would find a tracked file that the builder does not get to be a change, and the version of
// the binary would end in +dirty.
func TestImageHasAllTrackedFiles(t *testing.T) {
	output, err := exec.Command("git", "-C", "..", "ls-files", "--cached", "--ignored", "--exclude-from=.dockerignore").CombinedOutput()
	if err != nil || len(output) > 0 {
		t.Errorf(".dockerignore leaves out what is tracked: %v\n%s", err, output)
	}
}

func TestImageIsBuiltWithTheToolchain(t *testing.T) {
	version := func(file, pattern string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s names no release of Go", file)
		}
		return string(found[1])
	}
	image, toolchain := version("../Dockerfile", `golang:([0-9.]+) `), version("../go.mod", `\ntoolchain go([0-9.]+)\n`)
	if image != toolchain {
		t.Errorf("the image is built with Go %s, and releases with %s", image, toolchain)
	}
}
