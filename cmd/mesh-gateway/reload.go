package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/server"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// watchInterval is how often the configuration file is read to see whether it has changed.
//
// Reading it is cheaper than it is to be notified in all cases: a Kubernetes ConfigMap is a link to a
// directory that is replaced, editors rename files, and network file systems notify nobody.
const watchInterval = time.Second

// live returns the options of the server that can change while it serves. A setting that is live is
// used here, or in a preparation of the reloader.
func live(c *config.Config) server.Live {
	options := server.Live{
		ReadRate:       c.Limits.RateRead,
		WriteRate:      c.Limits.RateWrite,
		FailureRate:    c.Limits.RateFailures,
		LogSuccesses:   c.Telemetry.LogSampleSuccess,
		Streams:        policy.StreamLimits{PerKey: c.Limits.MaxKeyStreams, All: c.Limits.MaxStreams},
		MaxBodyBytes:   c.Limits.MaxBodyBytes,
		RequestTimeout: c.Limits.RequestTimeout,
	}
	for _, origin := range c.CORS.Origins {
		options.CORSOrigins = append(options.CORSOrigins, string(origin))
	}
	options.TrustedProxies = trustedProxies(c)
	return options
}

// connectionLimits returns the limits of the connections of clients, which are live too.
func connectionLimits(c *config.Config) server.ConnectionLimits {
	return server.ConnectionLimits{All: c.Limits.MaxConnections, Address: c.Limits.MaxAddressConnections, Trusted: trustedProxies(c)}
}

func trustedProxies(c *config.Config) (prefixes []netip.Prefix) {
	for _, proxy := range c.Server.TrustedProxy {
		prefixes = append(prefixes, proxy.Prefix)
	}
	return prefixes
}

// preparation prepares the use of a new configuration. commit begins to use it and cannot fail.
type preparation func(*config.Config) (commit func(), err error)

// reloader reads the configuration again when its file changes and on SIGHUP, and uses what can
// change while the gateway serves. There is one way for a value to change: everything is prepared
// from a configuration that is valid as a whole, and then committed.
type reloader struct {
	// started is the configuration that the gateway was started with, and running the last one that
	// was used. They are the same object until the first reload.
	started, running *config.Config
	// parse reads the configuration again.
	parse func() (*config.Config, error)
	// prepare is called for a valid configuration. Nothing is committed unless all succeed.
	prepare []preparation
	metrics *telemetry.Reloads
	logger  *slog.Logger
}

// start reloads in the background until the function that it returns is called, which waits for a
// reload that has begun. From now on SIGHUP does not end the program. In a terminal it does if there is
// nothing to reload, as usual: closing the terminal ends a sandbox.
func (r *reloader) start() (stop func()) {
	if !r.started.Reloads() {
		if term.IsTerminal(int(os.Stdin.Fd())) {
			return func() {}
		}
		return onHangup(func() {
			r.logger.Info("there are no settings to reload: only those in a file (--config) and certificates can change without a restart")
		})
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	wait := runUntil(func(ctx context.Context) { r.run(ctx, hangups) })
	return func() {
		wait()
		signal.Stop(hangups)
	}
}

// run reloads until ctx is done.
func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal) {
	var changes <-chan time.Time
	// Reading a pipe again would wait for somebody who writes to it.
	if regular(r.started.File.Path) {
		watch := time.NewTicker(watchInterval)
		defer watch.Stop()
		changes = watch.C
	}
	used, before := r.started.Content(), r.started.Content()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			used = r.reload()
		case <-changes:
			now, err := os.ReadFile(r.started.File.Path)
			if err != nil {
				now = nil
			}
			// A change counts once it is read twice, so that a file is not used while it is written.
			if !bytes.Equal(now, used) && bytes.Equal(now, before) {
				used = r.reload()
			}
			before = now
		}
	}
}

// reload reads the configuration and uses it if all of it is valid. It returns the content of the
// file that it has read, which may be nil.
func (r *reloader) reload() (content []byte) {
	next, err := r.parse()
	if next != nil {
		content = next.Content()
	}
	if err == nil {
		err = r.use(next)
	}
	r.metrics.Count(err, time.Now())
	if err == nil {
		return content
	}
	message := "the configuration was not reloaded, and what was used before is still used"
	if problems := (config.Problems)(nil); errors.As(err, &problems) {
		for _, problem := range problems {
			r.logger.Error(message, slog.String("setting", problem.Setting), slog.String("error", problem.Error()))
		}
		return content
	}
	r.logger.Error(message, slog.Any("error", err))
	return content
}

// use begins to use the configuration, or returns an error and changes nothing.
func (r *reloader) use(next *config.Config) error {
	var commits []func()
	for _, prepare := range r.prepare {
		commit, err := prepare(next)
		if err != nil {
			return err
		}
		commits = append(commits, commit)
	}
	for _, commit := range commits {
		commit()
	}
	var changed, restart []any
	for _, change := range config.Changes(r.running, next) {
		if change.Live {
			changed = append(changed, slog.String(change.Name, change.From+" -> "+change.To))
		}
	}
	for _, change := range config.Changes(r.started, next) {
		if !change.Live {
			restart = append(restart, slog.String(change.Name, change.From+" -> "+change.To))
		}
	}
	r.running = next
	r.logger.Info("the configuration was reloaded", slog.String("file", next.File.Path), slog.Group("changed", changed...))
	if len(restart) > 0 {
		r.logger.Warn("a change of the configuration needs a restart", slog.Group("unchanged", restart...))
	}
	return nil
}

// regular reports whether path is that of a regular file.
func regular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// parseConfig reads the configuration of `mesh-gateway serve` with the arguments. The configuration
// may be set, with the content of its file, even if there is an error.
func parseConfig(args []string) (*config.Config, error) {
	c := new(cli)
	parser, err := newParser(c, streams{io.Discard, io.Discard}, func(int) {})
	if err != nil {
		return nil, err
	}
	_, err = parser.Parse(args)
	return &c.Serve.Config, err
}
