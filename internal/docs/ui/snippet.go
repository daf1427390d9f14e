package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// kind is the kind of a response, which decides how a snippet reads it.
type kind string

const (
	message  kind = "message"
	stream   kind = "stream"
	workbook kind = "workbook"
)

// Snippet is a program or a command that makes a call. It reads the address, the key and the group
// from the environment variables MESH_URL, MESH_API_KEY and MESH_GROUP.
type Snippet struct {
	// Language is the name of the language for people, and ID its name in the page.
	Language, ID string
	Code         string
}

// snippetData is the data of a snippet's template.
type snippetData struct {
	examples.Call
	Kind kind
	// Pretty is the body, indented, with one line per member.
	Pretty string
	// Headers are the headers except the credentials and the type of the body.
	Headers []header
}

type header struct{ Name, Value string }

// HasGroup reports whether the call is made in a group other than MESH_GROUP.
func (c snippetData) HasGroup() bool { return c.Header[wire.GroupHeader] != "" }

// Quoted returns the text in single quotes for a shell.
func (snippetData) Quoted(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// Indented indents all lines of the text except the first one by a number of spaces.
func (snippetData) Indented(spaces int, text string) string {
	return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", spaces))
}

// snippets writes calls as snippets in each language.
type snippets struct{ templates *template.Template }

func newSnippets() (snippets, error) {
	templates, err := template.ParseFS(page, "page/snippets/*.tmpl")
	return snippets{templates}, err
}

// of returns the call in each language.
func (s snippets) of(call examples.Call, k kind) ([]Snippet, error) {
	data := snippetData{Call: call, Kind: k}
	if call.Body != "" {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, []byte(call.Body), "", "  "); err != nil {
			return nil, err
		}
		data.Pretty = pretty.String()
	}
	for name, value := range call.Header {
		if value != "" && name != wire.APIKeyHeader && name != wire.GroupHeader {
			data.Headers = append(data.Headers, header{name, value})
		}
	}
	if k == workbook {
		data.Headers = append(data.Headers, header{"Accept", wire.Workbook})
	}
	slices.SortFunc(data.Headers, func(a, b header) int { return strings.Compare(a.Name, b.Name) })

	var written []Snippet
	for _, language := range []Snippet{{Language: "curl", ID: "curl"}, {Language: "JavaScript", ID: "javascript"}, {Language: "Python", ID: "python"}, {Language: "Go", ID: "go"}} {
		var code strings.Builder
		if err := s.templates.ExecuteTemplate(&code, language.ID+".tmpl", data); err != nil {
			return nil, fmt.Errorf("%s: %w", language.Language, err)
		}
		language.Code = strings.TrimSpace(code.String()) + "\n"
		written = append(written, language)
	}
	return written, nil
}
