package main

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestVersionNamesTheBuild(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"version"}, streams{&stdout, &stderr}); code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit status %d, stderr %q", code, &stderr)
	}
	got := strings.Fields(stdout.String())
	want := []string{"mesh-gateway", buildVersion(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if lines := strings.Count(stdout.String(), "\n"); lines != 1 {
		t.Errorf("%d lines, want 1", lines)
	}
}
