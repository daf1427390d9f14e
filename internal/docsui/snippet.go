package docsui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/meshtrade/mesh-gateway/internal/tour"
)

const workbookMedia = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

// kind is how an answer is to be read.
type kind string

const (
	message  kind = "message"
	stream   kind = "stream"
	workbook kind = "workbook"
)

// Snippet is a program, or a command, that makes a call. It takes the address,
// the key and the group from the environment: MESH_URL, MESH_API_KEY and
// MESH_GROUP.
type Snippet struct {
	// Language is how people call it, and ID how the page does.
	Language, ID string
	Code         string
}

// call is what a snippet is filled with.
type call struct {
	tour.Stop
	Kind kind
	// Pretty is the body with a line for each member.
	Pretty string
	// Headers are what is sent besides credentials and the type of the body.
	Headers []header
}

type header struct{ Name, Value string }

// HasGroup reports whether the call is made in a group other than MESH_GROUP.
func (c call) HasGroup() bool { return c.Header["X-Group"] != "" }

// Quoted is a text between single quotes of a shell.
func (call) Quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// Indented is a text whose further lines start with so many spaces.
func (call) Indented(spaces int, text string) string {
	return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", spaces))
}

// snippets writes calls in each language.
type snippets struct{ templates *template.Template }

func newSnippets() (snippets, error) {
	templates, err := template.ParseFS(page, "page/snippets/*.tmpl")
	return snippets{templates}, err
}

// of returns the call in each language.
func (s snippets) of(stop tour.Stop, k kind) ([]Snippet, error) {
	c := call{Stop: stop, Kind: k}
	if stop.Body != "" {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, []byte(stop.Body), "", "  "); err != nil {
			return nil, err
		}
		c.Pretty = pretty.String()
	}
	for name, value := range stop.Header {
		if value != "" && name != "X-Api-Key" && name != "X-Group" {
			c.Headers = append(c.Headers, header{name, value})
		}
	}
	if k == workbook {
		c.Headers = append(c.Headers, header{"Accept", workbookMedia})
	}
	slices.SortFunc(c.Headers, func(a, b header) int { return strings.Compare(a.Name, b.Name) })

	var written []Snippet
	for _, language := range []Snippet{{Language: "curl", ID: "curl"}, {Language: "JavaScript", ID: "javascript"}, {Language: "Python", ID: "python"}, {Language: "Go", ID: "go"}} {
		var code strings.Builder
		if err := s.templates.ExecuteTemplate(&code, language.ID+".tmpl", c); err != nil {
			return nil, fmt.Errorf("%s: %w", language.Language, err)
		}
		language.Code = strings.TrimSpace(code.String()) + "\n"
		written = append(written, language)
	}
	return written, nil
}
