package health_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/health"
)

var errDown = errors.New("dial tcp 10.0.0.1: connection refused")

func TestReadiness(t *testing.T) {
	for _, test := range []struct {
		name   string
		weight health.Weight
		// results are those of the check, one a second.
		results []error
		blocks  []bool
	}{
		{"required", health.Required, []error{errDown, nil, errDown}, []bool{true, false, true}},
		{"at the start", health.AtStart, []error{errDown, nil, errDown}, []bool{true, false, false}},
		{"advisory", health.Advisory, []error{errDown, nil, errDown}, []bool{false, false, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				next := 0
				checks := health.New(slog.New(slog.DiscardHandler), health.Check{
					Name: "store", Weight: test.weight, Problem: "The store is lost.",
					Run: func(context.Context) error { next++; return test.results[next-1] },
				})
				for i, want := range test.results {
					result := checks.Results(t.Context())[0]
					if result.Name != "store" || result.OK != (want == nil) || result.Blocks() != test.blocks[i] {
						t.Errorf("%d: %+v, blocks %t", i, result, result.Blocks())
					}
					if want != nil && (result.Problem != "The store is lost." || result.Reason() != apierror.NotReady) {
						t.Errorf("%d: %+v, reason %s", i, result, result.Reason())
					}
					time.Sleep(2 * time.Second)
				}
			})
		})
	}
}

// TestProbesDoNotLoadWhatIsChecked probes often, and at the same time.
func TestProbesDoNotLoadWhatIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		checks := health.New(slog.New(slog.DiscardHandler), health.Check{
			Run: func(context.Context) error { runs++; time.Sleep(100 * time.Millisecond); return nil },
		})
		end := time.Now().Add(10 * time.Second)
		var probes sync.WaitGroup
		for range 10 {
			probes.Go(func() {
				for time.Now().Before(end) {
					checks.Results(t.Context())
					time.Sleep(time.Millisecond)
				}
			})
		}
		probes.Wait()
		if runs < 5 || runs > 10 {
			t.Errorf("%d runs in 10 seconds", runs)
		}
	})
}

func TestASlowCheckFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		checks := health.New(slog.New(slog.DiscardHandler), health.Check{Name: "a", Run: hangs}, health.Check{Name: "b", Run: hangs})
		began := time.Now()
		for _, result := range checks.Results(t.Context()) {
			if result.OK {
				t.Errorf("%+v", result)
			}
		}
		if took := time.Since(began); took >= time.Second {
			t.Errorf("two checks that hang took %s", took)
		}
	})
}

// TestAProbeThatIsGivenUp must not make the check fail for the next one.
func TestAProbeThatIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checks := health.New(slog.New(slog.DiscardHandler), health.Check{
			Run: func(ctx context.Context) error { return ctx.Err() },
		})
		given, up := context.WithCancel(t.Context())
		up()
		if result := checks.Results(given)[0]; !result.OK {
			t.Errorf("%+v", result)
		}
	})
}

func TestChangesAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var result error
		checks := health.New(slog.New(slog.NewTextHandler(&log, nil)), health.Check{Name: "store", Run: func(context.Context) error { return result }})
		for _, result = range []error{nil, errDown, errDown, nil, nil} {
			checks.Results(t.Context())
			time.Sleep(2 * time.Second)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], errDown.Error()) || !strings.Contains(lines[0], "check=store") || !strings.Contains(lines[1], "succeeded again") {
			t.Errorf("%s", log.String())
		}
	})
}
