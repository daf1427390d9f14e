// Package credentials finds and reads the credentials file that the Mesh SDKs
// use: JSON with an API key and the group that the caller acts for.
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
	// Auto is the path that asks [Find] to look where the Mesh SDKs do.
	Auto = "auto"
	// Variable is the environment variable that holds the path of the file.
	Variable = "MESH_API_CREDENTIALS"

	// KeyLength is the number of characters of an API key.
	KeyLength = 43

	groupPrefix = "groups/"
	ulidLength  = 26
	ulidLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

	// maxFileBytes is far above any credentials file; a path that was mistyped
	// must not read a disk image into memory.
	maxFileBytes = 64 << 10

	redacted = "[redacted]"
)

// Credentials are an API key and the group that it acts for. They print and
// log without the key; only APIKey itself gives it.
type Credentials struct {
	// APIKey is 43 characters of A-Z, a-z, 0-9, "-" and "_".
	APIKey string `json:"-"`
	// Group is the name of a group, "groups/{ULID}".
	Group string
	// Path is the file they were read from.
	Path string
	// Warning tells what is unsafe about the file and what to do; empty where
	// nothing is.
	Warning string
}

// String gives the credentials without the key.
func (c Credentials) String() string {
	key := redacted
	if c.APIKey == "" {
		key = "none"
	}
	return fmt.Sprintf("credentials of %s from %q (key %s)", c.Group, c.Path, key)
}

// Format implements [fmt.Formatter]: no verb, %#v among them, gives the key.
func (c Credentials) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, c.String())
}

// LogValue implements [slog.LogValuer], without the key.
func (c Credentials) LogValue() slog.Value {
	return slog.GroupValue(slog.String("group", c.Group), slog.String("path", c.Path))
}

// ValidKey reports whether the text has the form of an API key.
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

// ValidGroup reports whether the text has the form of a group's name.
func ValidGroup(text string) bool {
	id, ok := strings.CutPrefix(text, groupPrefix)
	return ok && len(id) == ulidLength && strings.Trim(id, ulidLetters) == ""
}

// Find reads the credentials file at path, or for [Auto] the one that the
// Mesh SDKs would take: the file that $MESH_API_CREDENTIALS names, else
// mesh/credentials.json in the user's configuration folder (Linux ~/.config,
// macOS ~/Library/Application Support, Windows %AppData%). A nil getenv reads
// the environment of the process.
//
// Where there is no file the error is [fs.ErrNotExist] and lists the places.
// No error holds anything of the file's values.
func Find(path string, getenv func(string) string) (Credentials, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	return find(path, getenv, runtime.GOOS)
}

func find(path string, getenv func(string) string, goos string) (Credentials, error) {
	if path != Auto {
		if path == "" {
			return Credentials{}, errors.New("credentials: no path was given")
		}
		return read(path, goos)
	}

	// The variable is meant: where its file is missing, falling back to another
	// one would act for a group that nobody asked for.
	if named := getenv(Variable); named != "" {
		credentials, err := read(named, goos)
		if err != nil {
			return Credentials{}, fmt.Errorf("%w (the file that $%s names)", err, Variable)
		}
		return credentials, nil
	}

	places, unknown := folders(getenv, goos)
	looked := []string{"$" + Variable + " (not set)"}
	for _, folder := range places {
		file := filepath.Join(folder, "mesh", "credentials.json")
		credentials, err := read(file, goos)
		if !errors.Is(err, fs.ErrNotExist) {
			return credentials, err
		}
		looked = append(looked, file)
	}
	if unknown != "" {
		looked = append(looked, unknown)
	}
	return Credentials{}, &notFoundError{looked: looked}
}

// notFoundError lists where was looked in vain.
type notFoundError struct{ looked []string }

func (e *notFoundError) Error() string {
	return "credentials: no file found; looked at " + strings.Join(e.looked, ", ")
}

func (*notFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// folders are the user's configuration folders, as os.UserConfigDir has them
// for the process's own environment. unknown says why there is none.
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
		// Some SDKs know ~/.config only, so it is looked at too where
		// XDG_CONFIG_HOME points elsewhere.
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
	return nil, "the home folder ($HOME is not set)"
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
	// Of the open file, so that it is the one that is read.
	info, err := file.Stat()
	if err != nil {
		return Credentials{}, unreadable(path, err)
	}
	if info.IsDir() {
		return fail("is a folder; name the file in it")
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return Credentials{}, unreadable(path, err)
	}
	if len(text) > maxFileBytes {
		return fail(fmt.Sprintf("is larger than %d bytes, so it is no credentials file", maxFileBytes))
	}

	credentials, problem := parse(text)
	if problem != "" {
		return fail(problem)
	}
	credentials.Path = path
	if goos != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		credentials.Warning = fmt.Sprintf("The credentials file %s can be used by other users of this computer (mode %04o). Run: chmod 600 %s",
			path, info.Mode().Perm(), shellQuote(path))
	}
	return credentials, nil
}

// unreadable leaves out the operation and the second mention of the path.
func unreadable(path string, err error) error {
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("credentials: file %q: %w", path, err)
}

// parse returns the problems instead of an error of encoding/json, some of
// which quote the value.
func parse(text []byte) (Credentials, string) {
	// Editors on Windows begin files with a byte order mark.
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
		problems = append(problems, "group and group_id name different groups; keep the one that is meant")
	case !ValidGroup(group):
		problems = append(problems, field+` must be "groups/" and a ULID of 26 characters`)
	}
	if len(problems) > 0 {
		return Credentials{}, strings.Join(problems, "; ")
	}
	return Credentials{APIKey: content.APIKey, Group: group}, ""
}

// shellQuote makes the path one word of a POSIX shell.
func shellQuote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@:,", r)
	}
	if strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 && !strings.HasPrefix(path, "-") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
