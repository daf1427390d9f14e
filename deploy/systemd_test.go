package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// unit writes the unit to a directory, with the drop-ins and with a program that exists, since
// systemd-analyze wants to find it.
func unit(t *testing.T, dropIns ...string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("systemd/mesh-gateway.service")
	if err != nil {
		t.Fatal(err)
	}
	program, err := program()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "mesh-gateway.service")
	write(t, file, strings.ReplaceAll(string(text), "/usr/local/bin/mesh-gateway", program))
	for _, name := range dropIns {
		text, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(file+".d", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(file+".d", name), string(text))
	}
	return file
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestUnitIsValid(t *testing.T) {
	for _, test := range []struct {
		name    string
		dropIns []string
	}{
		{"alone", nil},
		{"with TLS", []string{"tls.conf"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			// It says what it ignores, such as directives that do not exist, and exits with 0.
			if said := run(t, "systemd-analyze", "verify", "--man=no", unit(t, test.dropIns...)); said != "" {
				t.Error(said)
			}
		})
	}
}

func TestUnitIsHardened(t *testing.T) {
	for _, test := range []struct {
		name    string
		dropIns []string
		most    int // of an exposure from 0 to 100
	}{
		{"alone", nil, 15},
		{"with TLS", []string{"tls.conf"}, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			run(t, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+strconv.Itoa(test.most), unit(t, test.dropIns...))
		})
	}
}

func TestUnitWaitsForTheShutdown(t *testing.T) {
	text, err := os.ReadFile("systemd/mesh-gateway.service")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)s$`).FindSubmatch(text)
	if found == nil {
		t.Fatal("no TimeoutStopSec")
	}
	if seconds, err := strconv.ParseInt(string(found[1]), 10, 64); err != nil || seconds <= shutdownTimeout(t) {
		t.Errorf("%d seconds, and a shutdown may take %d", seconds, shutdownTimeout(t))
	}
}
