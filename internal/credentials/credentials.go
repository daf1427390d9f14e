// Package credentials finds and reads the credentials file of the Mesh SDKs: a JSON object with an
// API key and the group that the caller acts for. It also has the form of both.
package credentials

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	// Auto is the path for which [Find] searches the same places as the Mesh SDKs.
	Auto = "auto"
	// Variable is the environment variable with the path of the file.
	Variable = "MESH_API_CREDENTIALS"

	// KeyLength is the length of an API key in characters.
	KeyLength = 43

	groupPrefix = "groups/"
	ulidLength  = 26
	ulidLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

	// maxFileBytes is far above the size of any credentials file. It keeps a mistyped path from
	// reading a disk image into memory.
	maxFileBytes = 64 << 10

	redacted = "[redacted]"
)

// Credentials are an API key and the group that it acts for. Printing or logging them does not
// reveal the key.
type Credentials struct {
	// APIKey is 43 characters of A-Z, a-z, 0-9, "-" and "_".
	APIKey string `json:"-"`
	// Group is the name of a group, "groups/{ULID}".
	Group string
	// Path is the file that they were read from.
	Path string
	// Warning says why the file is unsafe and how to fix it. It is "" if the file is safe.
	Warning string
}

// String returns a description without the key.
func (c Credentials) String() string {
	key := redacted
	if c.APIKey == "" {
		key = "none"
	}
	return fmt.Sprintf("credentials of %s from %q (key %s)", c.Group, c.Path, key)
}

// Format implements [fmt.Formatter], so that no verb, not even %#v, prints the key.
func (c Credentials) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, c.String())
}

// LogValue implements [slog.LogValuer], without the key.
func (c Credentials) LogValue() slog.Value {
	return slog.GroupValue(slog.String("group", c.Group), slog.String("path", c.Path))
}

// ValidKey reports whether text has the form of an API key: 43 characters of A-Z, a-z, 0-9, "-"
// and "_".
func ValidKey(text string) bool {
	if len(text) != KeyLength {
		return false
	}
	for _, c := range []byte(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// ValidGroup reports whether text has the form of a group name: "groups/" and a ULID.
func ValidGroup(text string) bool {
	id, ok := strings.CutPrefix(text, groupPrefix)
	return ok && len(id) == ulidLength && strings.Trim(id, ulidLetters) == ""
}

// Find reads the credentials file at path. For [Auto] it reads the file that the Mesh SDKs use:
// the one that $MESH_API_CREDENTIALS names, or else mesh/credentials.json in the user's
// configuration directory (Linux ~/.config, macOS ~/Library/Application Support, Windows
// %AppData%). If getenv is nil, Find reads the environment of the process.
//
// If there is no file, the error matches [fs.ErrNotExist] and lists the places searched. Errors
// never contain values from the file.
func Find(path string, getenv func(string) string) (Credentials, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	return find(path, getenv, runtime.GOOS)
}

func find(path string, getenv func(string) string, goos string) (Credentials, error) {
	if path != Auto {
		if path == "" {
			return Credentials{}, errors.New("credentials: the path is empty")
		}
		return read(path, goos)
	}

	// If the file that the variable names is missing, there is no fallback: another file could
	// act for a group that the user did not choose.
	if named := getenv(Variable); named != "" {
		credentials, err := read(named, goos)
		if err != nil {
			return Credentials{}, fmt.Errorf("%w (the file that $%s names)", err, Variable)
		}
		return credentials, nil
	}

	places, unknown := folders(getenv, goos)
	searched := []string{"$" + Variable + " (not set)"}
	for _, folder := range places {
		file := filepath.Join(folder, "mesh", "credentials.json")
		credentials, err := read(file, goos)
		if !errors.Is(err, fs.ErrNotExist) {
			return credentials, err
		}
		searched = append(searched, file)
	}
	if unknown != "" {
		searched = append(searched, unknown)
	}
	return Credentials{}, &notFoundError{searched: searched}
}

// notFoundError lists the places that were searched.
type notFoundError struct{ searched []string }

func (e *notFoundError) Error() string {
	return "credentials: no file found; searched " + strings.Join(e.searched, ", ")
}

func (*notFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// folders returns the user's configuration directories, as os.UserConfigDir does for the
// environment of the process. If there is none, unknown says why.
func folders(getenv func(string) string, goos string) (places []string, unknown string) {
	switch goos {
	case "windows":
		if folder := getenv("AppData"); folder != "" {
			return []string{folder}, ""
		}
		return nil, "%AppData% (not set)"
	case "darwin":
		if home := getenv("HOME"); home != "" {
			return []string{filepath.Join(home, "Library", "Application Support")}, ""
		}
	default:
		// Some SDKs ignore XDG_CONFIG_HOME, so ~/.config is searched as well.
		if folder := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(folder) {
			places = append(places, folder)
		}
		if home := getenv("HOME"); home != "" {
			if folder := filepath.Join(home, ".config"); len(places) == 0 || filepath.Clean(places[0]) != folder {
				places = append(places, folder)
			}
		}
		if len(places) > 0 {
			return places, ""
		}
	}
	return nil, "the home directory ($HOME is not set)"
}

func read(path, goos string) (Credentials, error) {
	fail := func(problem string) (Credentials, error) {
		return Credentials{}, fmt.Errorf("credentials: file %q: %s", path, problem)
	}
	file, err := os.Open(path)
	if err != nil {
		return Credentials{}, unreadable(path, err)
	}
	defer func() { _ = file.Close() }()
	// Stat of the open file, since the path may name another file by now.
	info, err := file.Stat()
	if err != nil {
		return Credentials{}, unreadable(path, err)
	}
	if info.IsDir() {
		return fail("is a directory; give the path of a file in it")
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return Credentials{}, unreadable(path, err)
	}
	if len(text) > maxFileBytes {
		return fail(fmt.Sprintf("is larger than %d bytes, so it is not a credentials file", maxFileBytes))
	}

	credentials, problem := parse(text)
	if problem != "" {
		return fail(problem)
	}
	credentials.Path = path
	if goos != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		credentials.Warning = fmt.Sprintf("The credentials file %s is accessible to other users of this computer (mode %04o). Run: chmod 600 %s",
			path, info.Mode().Perm(), shellQuote(path))
	}
	return credentials, nil
}

// unreadable wraps err without the operation and the path of a [fs.PathError], which would repeat
// the path.
func unreadable(path string, err error) error {
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("credentials: file %q: %w", path, err)
}

// parse returns a description of the problems instead of the error of encoding/json, which may
// quote a value.
func parse(text []byte) (Credentials, string) {
	// Some editors on Windows write a byte order mark.
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(text)) == 0 {
		return Credentials{}, "is empty"
	}
	var content struct {
		APIKey  string `json:"api_key"`
		Group   string `json:"group"`
		GroupID string `json:"group_id"`
	}
	if err := json.Unmarshal(text, &content); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			if wrong.Field == "" {
				return Credentials{}, `must be a JSON object such as {"api_key": "…", "group": "groups/…"}`
			}
			return Credentials{}, wrong.Field + " must be a string"
		}
		if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
			return Credentials{}, fmt.Sprintf("is not valid JSON (at byte %d)", wrong.Offset)
		}
		return Credentials{}, "is not valid JSON"
	}

	var problems []string
	switch {
	case content.APIKey == "":
		problems = append(problems, "api_key is missing")
	case !ValidKey(content.APIKey):
		problems = append(problems, fmt.Sprintf("api_key must be %d characters of A-Z, a-z, 0-9, - and _ (it has %d bytes)",
			KeyLength, len(content.APIKey)))
	}
	group, field := content.Group, "group"
	if group == "" && content.GroupID != "" {
		group, field = content.GroupID, "group_id"
	}
	switch {
	case group == "":
		problems = append(problems, "group is missing")
	case content.GroupID != "" && content.GroupID != group:
		problems = append(problems, "group and group_id name different groups; remove one of them")
	case !ValidGroup(group):
		problems = append(problems, field+` must be "groups/" and a ULID of 26 characters`)
	}
	if len(problems) > 0 {
		return Credentials{}, strings.Join(problems, "; ")
	}
	return Credentials{APIKey: content.APIKey, Group: group}, ""
}

// shellQuote quotes the path as one word for a POSIX shell.
func shellQuote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@:,", r)
	}
	if strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 && !strings.HasPrefix(path, "-") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
