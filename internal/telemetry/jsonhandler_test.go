package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

// TestJSONHandler compares what it writes with what slog.JSONHandler does.
func TestJSONHandler(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("", 7200))
	for _, test := range []struct {
		name   string
		time   time.Time
		level  slog.Level
		msg    string
		with   []slog.Attr
		group  string
		values []slog.Attr
	}{
		{"a request", at, slog.LevelInfo, "request", []slog.Attr{slog.String("rpc", "/a.B/C"), slog.Int("n", 1)}, "", []slog.Attr{
			slog.String("path", "/v1/{name=groups/*}?<>&'"), slog.Int("status", 200), slog.Float64("duration_ms", 1.234), slog.Bool("sent", true), slog.Uint64("u", math.MaxUint64)}},
		{"nothing", at, slog.LevelWarn, "", nil, "", nil},
		{"another level", at, slog.LevelError + 2, "x", nil, "", nil},
		{"UTC", at.UTC(), slog.LevelInfo, "x", nil, "", nil},
		{"no fraction of a second", at.Truncate(time.Second), slog.LevelInfo, "x", nil, "", nil},
		{"no time", time.Time{}, slog.LevelInfo, "x", nil, "", nil},
		{"floats", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.Float64("zero", 0), slog.Float64("whole", 3), slog.Float64("negative", -2.5),
			slog.Float64("least", 1e-6), slog.Float64("many", 123456789.123456)}},
		{"small floats", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.Float64("f", 1e-7)}},
		{"large floats", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.Float64("f", 1e21)}},
		{"no number", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.Float64("f", math.NaN())}},
		{"quotes", at, slog.LevelInfo, `a "b" \`, nil, "", []slog.Attr{slog.String("s", `"`)}},
		{"control characters", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.String("s", "a\nb\x7f\x00")}},
		{"not ASCII", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.String("s", "ä\u2028")}},
		{"not UTF-8", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.String("s", "\xff")}},
		{"a key that needs escaping", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.String("a\"b", "c")}},
		{"no key", at, slog.LevelInfo, "x", nil, "", []slog.Attr{{}, slog.String("a", "b")}},
		{"addresses and callers", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.Any("ip", new(netip.MustParseAddr("2001:db8::1%eth0"))),
			slog.Any("none", new(netip.Addr)), slog.Any("caller", &Caller{1}), slog.Any("nobody", new(Caller))}},
		{"an address that needs escaping", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.Any("ip", new(netip.MustParseAddr("fe80::1%\"")))}},
		{"other values", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.Any("error", errors.New("lost")), slog.Duration("d", time.Second), slog.Time("t", at)}},
		{"attributes that are not plain", at, slog.LevelInfo, "x", []slog.Attr{slog.Any("error", errors.New("lost"))}, "", []slog.Attr{slog.Int("n", 1)}},
		{"a group", at, slog.LevelInfo, "x", []slog.Attr{slog.Int("n", 1)}, "g", []slog.Attr{slog.Int("m", 1)}},
		{"a group as a value", at, slog.LevelInfo, "x", nil, "", []slog.Attr{slog.Group("g", slog.Int("m", 1))}},
	} {
		t.Run(test.name, func(t *testing.T) {
			write := func(handler slog.Handler) {
				if test.with != nil {
					handler = handler.WithAttrs(test.with)
				}
				if test.group != "" {
					handler = handler.WithGroup(test.group)
				}
				record := slog.NewRecord(test.time, test.level, test.msg, 0)
				record.AddAttrs(test.values...)
				if err := handler.Handle(t.Context(), record); err != nil {
					t.Error(err)
				}
			}
			var got, want bytes.Buffer
			write(newJSONHandler(&got, slog.LevelInfo))
			write(slog.NewJSONHandler(&want, nil))
			if got.String() != want.String() {
				t.Errorf("%s, want %s", &got, &want)
			}
		})
	}
}

func TestAppendFloat(t *testing.T) {
	values := []float64{0, math.Copysign(0, -1), -1.5, 0.0005, 1 << 40, 1<<40 + 1, 1<<53 + 0.5, 1e20, 1e-6, 123.4567}
	for thousandths := range 20_000 {
		values = append(values, float64(thousandths)/1000, float64(thousandths)*1e6+0.1)
	}
	for _, value := range values {
		if got, want := string(appendFloat(nil, value)), strconv.FormatFloat(value, 'f', -1, 64); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestAttributesOfAHandlerAreItsOwn(t *testing.T) {
	var got bytes.Buffer
	parent := newJSONHandler(&got, slog.LevelInfo).WithAttrs([]slog.Attr{slog.Int("a", 1)})
	first := parent.WithAttrs([]slog.Attr{slog.Int("b", 2)})
	_ = parent.WithAttrs([]slog.Attr{slog.Int("c", 3)})
	if err := first.Handle(t.Context(), slog.NewRecord(time.Unix(0, 0).UTC(), slog.LevelInfo, "x", 0)); err != nil {
		t.Fatal(err)
	}
	if want := `{"time":"1970-01-01T00:00:00Z","level":"INFO","msg":"x","a":1,"b":2}` + "\n"; got.String() != want {
		t.Errorf("%s, want %s", &got, want)
	}
}
