package config_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/config"
)

var update = flag.Bool("update", false, "write the table of docs/configuration.md")

// TestReferenceIsUpToDate compares the table of settings in docs/configuration.md with the settings.
func TestReferenceIsUpToDate(t *testing.T) {
	const begin, end = "<!-- begin of the generated tables -->\n", "<!-- end of the generated tables -->\n"
	path := filepath.Join("..", "..", "docs", "configuration.md")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the tables", path)
	}
	want := tables(inputs{}.mustParse(t).Settings())
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not up to date; run go test ./internal/config -update. The tables should be:\n%s", path, want)
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tables has a table for each section.
func tables(settings []config.Setting) string {
	var b strings.Builder
	section := ""
	for _, s := range settings {
		if s.Section != section {
			section = s.Section
			fmt.Fprintf(&b, "\n### %s\n\n| Setting | Default | Live | |\n|---|---|---|---|\n", section)
		}
		help, value := s.Help, "off"
		if !s.Switch {
			at := strings.LastIndex(help, " (")
			help, value = help[:at]+".", strings.TrimSuffix(help[at+2:], ").")
		}
		live := ""
		if s.Live {
			live = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, cell(value), live, cell(help))
	}
	return b.String() + "\n"
}

// cell is text in a cell of a table in Markdown.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "*", "\\*", "<", "&lt;").Replace(text)
}

// TestDefaultsAreDocumented compares the defaults of the code with those in the help.
func TestDefaultsAreDocumented(t *testing.T) {
	compared := 0
	for _, s := range (inputs{}).mustParse(t).Settings() {
		value := s.Value()
		if s.Switch {
			if value != "false" {
				t.Errorf("the switch %s is %s by default", s.Name, value)
			}
			continue
		}
		_, documented, _ := strings.Cut(s.Help[strings.LastIndex(s.Help, " ("):], "(")
		documented, _, _ = strings.Cut(strings.TrimSuffix(documented, ")."), ";")
		// A rate is documented as 600/1m, and written as 600/1m0s.
		value = strings.Trim(strings.TrimSuffix(value, "0s"), `'"`)
		documented = strings.TrimSuffix(documented, "0s")
		switch value {
		case "", "null", "[]": // described in words
			if strings.ContainsAny(documented, "0123456789") {
				t.Errorf("%s has no default, and its help says %s", s.Name, documented)
			}
		case documented:
			compared++
		default:
			t.Errorf("%s is %s by default, and its help says %s", s.Name, value, documented)
		}
	}
	if compared < 12 {
		t.Errorf("only %d defaults were compared", compared)
	}
}

// TestVariables compares the names in the environment with those of the settings, as the reference
// says they are.
func TestVariables(t *testing.T) {
	settings := inputs{}.mustParse(t).Settings()
	if len(settings) < 25 {
		t.Fatalf("only %d settings", len(settings))
	}
	for _, s := range settings {
		if want := "MESH_GATEWAY_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_")); s.Variable != want {
			t.Errorf("%s is %s in the environment, want %s", s.Name, s.Variable, want)
		}
	}
}
