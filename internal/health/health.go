// Package health decides whether a gateway is ready to receive requests, from named checks of what it
// depends on.
//
// The results are remembered for a second, so that probes cannot load what is checked.
package health

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	// checkTime is how long a check may take. It is below the time that Kubernetes waits for a probe
	// by default, 1 second.
	checkTime = 900 * time.Millisecond
	// freshTime is how long a result is used again.
	freshTime = time.Second
)

// Weight is what a check means for readiness.
type Weight int

const (
	// Required checks must succeed.
	Required Weight = iota
	// AtStart checks must have succeeded once. What many replicas share is checked so: if it is lost
	// later, and only some calls need it, a gateway that is not ready would turn a partial failure
	// into a total one, in all replicas at once. Before that, it may be a mistake in the configuration
	// of this replica, and a rollout must stop.
	AtStart
	// Advisory checks are shown, and do not affect readiness.
	Advisory
)

// Check is a check of something that a gateway depends on.
type Check struct {
	// Name is a name for programs, such as "store".
	Name   string
	Weight Weight
	// Problem says in a sentence what it means if the check fails. Everybody can read it, so it has no
	// addresses.
	Problem string
	// Reason is that of the error if the gateway is not ready because of the check. The default is
	// [apierror.NotReady].
	Reason apierror.Reason
	// Run returns an error if the check fails. The error is logged and not shown. The context is done
	// after 0.9 seconds. Run is called at most once at a time, and at most once a second.
	Run func(ctx context.Context) error
}

// Result is the result of a check.
type Result struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Problem is that of the check if it failed.
	Problem string `json:"problem,omitempty"`

	blocks bool
	reason apierror.Reason
}

// Blocks reports whether the gateway is not ready because of the check.
func (r Result) Blocks() bool { return r.blocks }

// Reason returns the reason of the error if the check blocks.
func (r Result) Reason() apierror.Reason { return r.reason }

// Checks are the checks of a gateway. They are safe for concurrent use.
type Checks struct {
	logger *slog.Logger
	checks []*cached
}

// New returns checks that log when the result of one changes.
func New(logger *slog.Logger, checks ...Check) *Checks {
	c := &Checks{logger: logger}
	for _, check := range checks {
		c.checks = append(c.checks, &cached{Check: check})
	}
	return c
}

// Results runs the checks that have no fresh result, all at the same time, and returns their results
// in the order of [New]. The gateway is ready if no result blocks.
func (c *Checks) Results(ctx context.Context) []Result {
	results := make([]Result, len(c.checks))
	var running sync.WaitGroup
	for i, check := range c.checks {
		running.Go(func() { results[i] = check.result(ctx, c.logger) })
	}
	running.Wait()
	return results
}

// cached is a check with its last result.
type cached struct {
	Check

	running singleflight.Group

	mu sync.Mutex
	at time.Time // of the last result; zero if there is none
	// failure is the last result.
	failure error
	// succeeded is set once the check has succeeded.
	succeeded bool
}

func (c *cached) result(ctx context.Context, logger *slog.Logger) Result {
	if !c.fresh() {
		_, _, _ = c.running.Do("", func() (any, error) {
			if !c.fresh() { // another probe may have run it since
				c.run(ctx, logger)
			}
			return nil, nil
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	result := Result{Name: c.Name, OK: c.failure == nil}
	if c.failure != nil {
		result.Problem, result.reason = c.Problem, cmp.Or(c.Reason, apierror.NotReady)
		result.blocks = c.Weight == Required || c.Weight == AtStart && !c.succeeded
	}
	return result
}

func (c *cached) fresh() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.at.IsZero() && time.Since(c.at) <= freshTime
}

func (c *cached) run(ctx context.Context, logger *slog.Logger) {
	// A probe that is given up must not make the check fail for others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
	defer cancel()
	failure := c.Run(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case failure != nil && c.failure == nil:
		logger.Warn("readiness check failed", "check", c.Name, "error", failure)
	case failure == nil && c.failure != nil:
		logger.Info("readiness check succeeded again", "check", c.Name)
	}
	c.at, c.failure = time.Now(), failure
	c.succeeded = c.succeeded || failure == nil
}
