package telemetry

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// LogFormat is the format of log records.
type LogFormat string

// The formats of log records.
const (
	// AutoFormat is TextFormat if the output is a terminal, and otherwise JSONFormat.
	AutoFormat LogFormat = "auto"
	// JSONFormat is one JSON object per line.
	JSONFormat LogFormat = "json"
	// TextFormat is for people. It is coloured if the output is a terminal, unless it should not be
	// (https://no-color.org).
	TextFormat LogFormat = "text"
)

// NewHandler returns a handler of log records that writes them to log. out is where they get to in the
// end: it decides what [AutoFormat] is, and whether text is coloured.
func NewHandler(log, out io.Writer, format LogFormat, level slog.Leveler, getenv func(string) string) slog.Handler { //nolint:misspell // a name of slog
	terminal := isTerminal(out)
	if format == JSONFormat || format == AutoFormat && !terminal {
		return newJSONHandler(log, level)
	}
	return tint.NewTextHandler(log, &tint.Options{
		Level: level, TimeFormat: time.TimeOnly, NoColor: !terminal || getenv("NO_COLOR") != "", //nolint:misspell // a name
	})
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
