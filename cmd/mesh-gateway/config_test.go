package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// configFile writes a configuration file.
func configFile(t *testing.T, lines ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "gateway.yaml")
	writeFile(t, path, strings.Join(lines, "\n")+"\n")
	return path
}

func TestConfigCheck(t *testing.T) {
	t.Run("valid", func(t *testing.T) {
		got := runToEnd(t, "config", "check", "--config", configFile(t, "sandbox: true", "max-streams: 7"))
		if got != (ran{0, "the configuration is valid\n", ""}) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("every mistake", func(t *testing.T) {
		path := configFile(t, "max-streams: 0", "max-streems: 1", "rate-limit-read: 10")
		t.Setenv("MESH_GATEWAY_REQUEST_TIMEOUT", "0s")
		for _, command := range []string{"config check", "config print", "serve"} {
			got := runToEnd(t, append(strings.Fields(command), "--config", path, "--max-key-streams", "0")...)
			want := "mesh-gateway: --max-key-streams: must be at least 1, not 0\n" +
				"mesh-gateway: MESH_GATEWAY_REQUEST_TIMEOUT: must be more than 0s, not 0s\n" +
				"mesh-gateway: " + path + ":1:14: max-streams: must be at least 1, not 0\n" +
				"mesh-gateway: " + path + ":2:1: max-streems: there is no such setting; did you mean max-streams?\n" +
				"mesh-gateway: " + path + ":3:18: rate-limit-read: \"10\" is not a rate: want N/period with N from 1 to 1000000, such as 600/1m, or 0 for no limit\n" +
				"Run \"mesh-gateway " + command + " --help\" for usage.\n"
			if got != (ran{2, "", want}) {
				t.Errorf("%s: %+v, want\n%s", command, got, want)
			}
		}
	})
	t.Run("a credentials file that does not exist", func(t *testing.T) {
		path := configFile(t, "credentials: /nonexistent/mesh.json")
		if got := runToEnd(t, "config", "check", "--config", path); got.status != 2 || !strings.HasPrefix(got.stderr, "mesh-gateway: "+path+":1:14: credentials: ") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("no file", func(t *testing.T) {
		got := runToEnd(t, "serve", "--config", "/nonexistent/gateway.yaml")
		if got.status != 2 || !strings.HasPrefix(got.stderr, "mesh-gateway: --config: /nonexistent/gateway.yaml: no such file or directory\n") {
			t.Errorf("%+v", got)
		}
	})
}

func TestConfigPrint(t *testing.T) {
	t.Setenv("MESH_GATEWAY_REQUEST_TIMEOUT", "1m")
	path := configFile(t, "max-streams: 7")
	got := runToEnd(t, "config", "print", "--config", path, "--sandbox")
	if got.status != 0 || got.stderr != "" {
		t.Fatalf("%+v", got)
	}
	compact := strings.Join(strings.Fields(got.stdout), " ")
	for _, want := range []string{
		"listen: 127.0.0.1:8080 # default", "sandbox: true # flag", "max-streams: 7 # " + path + ":1", "request-timeout: 1m # MESH_GATEWAY_REQUEST_TIMEOUT",
	} {
		if !strings.Contains(compact, want) {
			t.Errorf("no %q in\n%s", want, got.stdout)
		}
	}
}

// TestFileOfOtherCommands reads a setting of serve for commands that share it.
func TestFileOfOtherCommands(t *testing.T) {
	path := configFile(t, "public-url: https://api.example.com", "store: memory", "max-streams: 7")
	if got := runToEnd(t, "openapi", "--config", path); got.status != 0 || !strings.Contains(got.stdout, "https://api.example.com") {
		t.Errorf("openapi: exit status %d, %s", got.status, got.stderr)
	}
	if got := runToEnd(t, "store", "list", "--config", path); got.status != 2 || !strings.Contains(got.stderr, "--store: a store in memory belongs to its gateway") {
		t.Errorf("store list: %+v", got)
	}
}

// TestListenErrorNamesTheSource takes the address away that the file names.
func TestListenErrorNamesTheSource(t *testing.T) {
	taken := takenAddress(t)
	path := configFile(t, "sandbox: true", "admin-listen: ''", "listen: "+taken)
	got := runToEnd(t, "serve", "--config", path)
	if got.status != 1 || !strings.HasPrefix(got.stderr, "mesh-gateway: "+path+":3:9: listen: cannot listen on "+taken+", which is in use") {
		t.Errorf("%+v", got)
	}
}

// TestCheckReadsCertificates finds a certificate that cannot be used before the start.
func TestCheckReadsCertificates(t *testing.T) {
	path := configFile(t, "tls-cert: /nonexistent/cert.pem", "tls-key: /nonexistent/key.pem")
	got := runToEnd(t, "config", "check", "--config", path)
	if got.status != 1 || !strings.HasPrefix(got.stderr, "mesh-gateway: "+path+":1:11: tls-cert: /nonexistent/cert.pem: ") {
		t.Errorf("%+v", got)
	}
}
