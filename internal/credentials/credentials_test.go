package credentials

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	key    = "Zq3-_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789Zq"
	group  = "groups/01HZXJ5K8MNPQRSTVWXYZ01234"
	other  = "groups/01HZXJ5K8MNPQRSTVWXYZ01235"
	secret = "Zq3-_aBc" // the beginning of the key, which no output may contain
)

func write(t *testing.T, path, text string, mode fs.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// WriteFile's mode is subject to the umask.
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func content(fields ...string) string {
	pairs := make([]string, 0, len(fields)/2)
	for i := 0; i < len(fields); i += 2 {
		pairs = append(pairs, fmt.Sprintf("%q: %q", fields[i], fields[i+1]))
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

func environment(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestParse(t *testing.T) {
	for _, test := range []struct{ name, text, problem string }{
		{"group", content("api_key", key, "group", group), ""},
		{"older group_id", content("api_key", key, "group_id", group), ""},
		{"both, the same", content("api_key", key, "group", group, "group_id", group), ""},
		{"group and an empty group_id", content("api_key", key, "group", group, "group_id", ""), ""},
		{"unknown fields", content("api_key", key, "group", group, "note", "mine"), ""},
		{"byte order mark", "\xef\xbb\xbf" + content("api_key", key, "group", group), ""},
		{"both, different", content("api_key", key, "group", group, "group_id", other), "different groups"},
		{"empty", " \n", "is empty"},
		{"cut off", content("api_key", key)[:30], "not valid JSON"},
		{"trailing text", content("api_key", key, "group", group) + key, "not valid JSON"},
		{"a string", `"` + key + `"`, "must be a JSON object"},
		{"key is a number", `{"api_key": 123456, "group": "` + group + `"}`, "api_key must be a string"},
		{"no key", content("group", group), "api_key is missing"},
		{"no group", content("api_key", key), "group is missing"},
		{"neither", "{}", "api_key is missing; group is missing"},
		{"null", "null", "api_key is missing"},
		{"key of 42", content("api_key", key[:42], "group", group), "it has 42 bytes"},
		{"key of 44", content("api_key", key+"a", "group", group), "it has 44 bytes"},
		{"key with another character", content("api_key", key[:42]+"=", "group", group), "api_key must be"},
		{"ULID of 25", content("api_key", key, "group", group[:len(group)-1]), "group must be"},
		{"ULID of 27", content("api_key", key, "group", group+"0"), "group must be"},
		{"ULID in lower case", content("api_key", key, "group", strings.ToLower(group)), "group must be"},
		{"ULID with I", content("api_key", key, "group", group[:len(group)-1]+"I"), "group must be"},
		{"ULID without groups/", content("api_key", key, "group", group[7:]), "group must be"},
		{"malformed group_id", content("api_key", key, "group_id", "x"), "group_id must be"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "c.json"), test.text, 0o600)
			got, err := Find(path, environment(nil))
			if test.problem == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got.APIKey != key || got.Group != group || got.Path != path || got.Warning != "" {
					t.Errorf("read %s, key right %t, warning %q", got, got.APIKey == key, got.Warning)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.problem) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v, want the file and %q", err, test.problem)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "123456") {
				t.Errorf("the error contains the key: %v", err)
			}
			if got != (Credentials{}) {
				t.Error("credentials were returned with an error")
			}
		})
	}
}

func TestFileProblems(t *testing.T) {
	folder := t.TempDir()
	good := content("api_key", key, "group", group)
	for _, test := range []struct {
		name, path, problem string
		notExist            bool
	}{
		{"no path", "", "path is empty", false},
		{"missing", filepath.Join(folder, "none.json"), "no such file", true},
		{"directory", folder, "is a directory", false},
		{"at the size limit", write(t, filepath.Join(folder, "at"), good+strings.Repeat(" ", maxFileBytes-len(good)), 0o600), "", false},
		{"over the size limit", write(t, filepath.Join(folder, "over"), good+strings.Repeat(" ", maxFileBytes-len(good)+1), 0o600), "is larger than", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Find(test.path, environment(nil))
			if test.problem == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.problem) || errors.Is(err, fs.ErrNotExist) != test.notExist {
				t.Errorf("error %v, want %q", err, test.problem)
			}
		})
	}
}

func TestAuto(t *testing.T) {
	good := content("api_key", key, "group", group)
	for _, test := range []struct {
		name, goos string
		env        map[string]string // of {root}
		files      []string          // in root
		want       string            // in root
		wantErr    []string
	}{
		{"the variable takes precedence over the directory", "linux", map[string]string{Variable: "{root}/named.json", "HOME": "{root}"},
			[]string{"named.json", ".config/mesh/credentials.json"}, "named.json", nil},
		{"no fallback if the file of the variable is missing", "linux", map[string]string{Variable: "{root}/named.json", "HOME": "{root}"},
			[]string{".config/mesh/credentials.json"}, "", []string{"{root}/named.json", "$" + Variable}},
		{"Linux", "linux", map[string]string{"HOME": "{root}"}, []string{".config/mesh/credentials.json"}, ".config/mesh/credentials.json", nil},
		{"Linux, XDG_CONFIG_HOME", "linux", map[string]string{"HOME": "{root}", "XDG_CONFIG_HOME": "{root}/xdg"},
			[]string{"xdg/mesh/credentials.json", ".config/mesh/credentials.json"}, "xdg/mesh/credentials.json", nil},
		{"Linux, XDG_CONFIG_HOME without the file", "linux", map[string]string{"HOME": "{root}", "XDG_CONFIG_HOME": "{root}/xdg"},
			[]string{".config/mesh/credentials.json"}, ".config/mesh/credentials.json", nil},
		{"macOS", "darwin", map[string]string{"HOME": "{root}"}, []string{"Library/Application Support/mesh/credentials.json"}, "Library/Application Support/mesh/credentials.json", nil},
		{"Windows", "windows", map[string]string{"AppData": "{root}/Roaming"}, []string{"Roaming/mesh/credentials.json"}, "Roaming/mesh/credentials.json", nil},
		{"nowhere", "linux", map[string]string{"HOME": "{root}", "XDG_CONFIG_HOME": "{root}/xdg"}, nil, "",
			[]string{"$" + Variable, "{root}/xdg/mesh/credentials.json", "{root}/.config/mesh/credentials.json"}},
		{"no home", "linux", nil, nil, "", []string{"$" + Variable, "$HOME is not set"}},
		{"no home on macOS", "darwin", nil, nil, "", []string{"$HOME is not set"}},
		{"no AppData", "windows", nil, nil, "", []string{"%AppData% (not set)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			env := map[string]string{}
			for name, value := range test.env {
				env[name] = strings.ReplaceAll(value, "{root}", root)
			}
			for _, file := range test.files {
				write(t, filepath.Join(root, file), good, 0o600)
			}
			got, err := find(Auto, environment(env), test.goos)
			if test.want != "" {
				if err != nil {
					t.Fatal(err)
				}
				if got.Path != filepath.Join(root, test.want) {
					t.Errorf("read %s, want %s", got.Path, test.want)
				}
				return
			}
			if !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("error %v, want fs.ErrNotExist", err)
			}
			for _, part := range test.wantErr {
				if part = strings.ReplaceAll(part, "{root}", root); !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not name %q", err, part)
				}
			}
		})
	}
}

func TestAutoStopsAtBrokenFile(t *testing.T) {
	root := t.TempDir()
	broken := write(t, filepath.Join(root, "xdg/mesh/credentials.json"), "{}", 0o600)
	write(t, filepath.Join(root, ".config/mesh/credentials.json"), content("api_key", key, "group", group), 0o600)
	_, err := find(Auto, environment(map[string]string{"HOME": root, "XDG_CONFIG_HOME": filepath.Join(root, "xdg")}), "linux")
	if err == nil || !strings.Contains(err.Error(), broken) {
		t.Errorf("error %v, want one about %s", err, broken)
	}
}

func TestWarning(t *testing.T) {
	for _, test := range []struct {
		name, file, goos string
		mode             fs.FileMode
		want             string
	}{
		{"owner only", "c.json", "linux", 0o600, ""},
		{"owner reads only", "c.json", "linux", 0o400, ""},
		{"group", "c.json", "linux", 0o640, "chmod 600 "},
		{"world", "c.json", "darwin", 0o604, "chmod 600 "},
		{"path with a space and a quote", "it's mine.json", "linux", 0o644, `it'\''s mine.json'`},
		{"Windows has no such mode", "c.json", "windows", 0o644, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), test.file), content("api_key", key, "group", group), test.mode)
			got, err := find(path, environment(nil), test.goos)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" && got.Warning != "" || !strings.Contains(got.Warning, test.want) {
				t.Errorf("warning %q, want %q", got.Warning, test.want)
			}
		})
	}
}

func TestNothingPrintsTheKey(t *testing.T) {
	c := Credentials{APIKey: key, Group: group, Path: "/c.json"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "credentials", c, "pointer", &c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "credentials", c, "pointer", &c)
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{"slog": log.String(), "json": string(encoded), "String": c.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%60s"} {
		outputs[verb] = fmt.Sprintf(verb, c)
		outputs["pointer "+verb] = fmt.Sprintf(verb, &c)
		outputs["nested "+verb] = fmt.Sprintf(verb, struct{ C Credentials }{c})
	}
	for name, output := range outputs {
		if strings.Contains(output, secret) || strings.Contains(strings.ToLower(output), fmt.Sprintf("%x", secret)) {
			t.Errorf("%s contains the key: %s", name, output)
		}
		if output == "" {
			t.Errorf("%s is empty", name)
		}
	}
	if got := fmt.Sprint(c); !strings.Contains(got, group) || !strings.Contains(got, redacted) {
		t.Errorf("%q does not contain the group and %q", got, redacted)
	}
	if got := fmt.Sprint(Credentials{}); !strings.Contains(got, "none") {
		t.Errorf("%q does not say that there is no key", got)
	}
}
