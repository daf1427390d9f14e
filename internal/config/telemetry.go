package config

import "log/slog"

// Telemetry is what the gateway tells its operators. Traces are not in it: they have the standard
// variables of OpenTelemetry.
type Telemetry struct {
	LogLevel         string  `name:"log-level" live:"" enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL" help:"Lowest level that is logged: debug, info, warn or error (${default})."`
	LogFormat        string  `name:"log-format" enum:"auto,json,text" default:"auto" placeholder:"auto|json|text" help:"Format of the log on standard error; auto is text on a terminal and otherwise json (${default})."`
	LogSampleSuccess float64 `name:"log-sample-success" live:"" default:"1" placeholder:"PART" help:"Part of the requests that succeed that is logged, from 0 to 1; those that fail always are (${default})."`
	AuditLog         string  `name:"audit-log" placeholder:"stdout|stderr|PATH" help:"Where to write one line of JSON for each write; a file is appended to, and opened again on SIGHUP (none)."`
	AuditFailure     string  `name:"audit-failure" enum:"refuse,continue" default:"refuse" placeholder:"refuse|continue" help:"What to do while --audit-log cannot be written: refuse writes, or continue and not be ready (${default})."`
	FlightRecorder   bool    `name:"flight-recorder" help:"Keep a trace of the Go runtime's last seconds for /debug/flight on the admin listener."`
}

// Level is LogLevel for slog.
func (t *Telemetry) Level() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(t.LogLevel)) // one of the enum
	return level
}

func (t *Telemetry) validate(p *Problems) {
	if !(t.LogSampleSuccess >= 0 && t.LogSampleSuccess <= 1) { // not a number is neither
		p.add("log-sample-success", "must be from 0 to 1, not %g", t.LogSampleSuccess)
	}
}
