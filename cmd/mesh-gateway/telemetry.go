package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/meshtrade/mesh-gateway/internal/audit"
	"github.com/meshtrade/mesh-gateway/internal/config"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// openAudit opens the audit log and adds its metrics. It returns nil if there is to be none. stop
// closes it.
func openAudit(c *config.Config, std streams, metrics *telemetry.Metrics, logger *slog.Logger) (log *audit.Log, stop func() error, err error) {
	failure := audit.Failure(c.Telemetry.AuditFailure)
	switch c.Telemetry.AuditLog {
	case "":
		return nil, func() error { return nil }, nil
	case "stdout":
		log, err = audit.To(std.out, failure, logger)
	case "stderr":
		log, err = audit.To(std.err, failure, logger)
	default:
		log, err = audit.Open(c.Telemetry.AuditLog, failure, logger)
	}
	if err != nil {
		return nil, nil, c.Problem("audit-log", err)
	}
	metrics.RegisterAudit(telemetry.Audit{Failures: log.Failures, Waiting: log.Waiting, Lost: log.Lost})
	unwatch := onHangup(func() {
		if err := log.Reopen(); err != nil {
			logger.Error("the audit log was not opened again", slog.Any("error", err))
		}
	})
	return log, func() error {
		unwatch()
		return log.Close()
	}, nil
}

// onHangup calls f for each SIGHUP until the function that it returns is called.
func onHangup(f func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	end := runUntil(func(ctx context.Context) {
		for {
			select {
			case <-hangups:
				f()
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		end()
	}
}

// reportReachability logs whether Mesh can be reached, as it becomes known and when it changes.
func reportReachability(logger *slog.Logger, target string) func(reachable bool) {
	return func(reachable bool) {
		if reachable {
			logger.Info("the Mesh API can be reached", slog.String("upstream", target))
			return
		}
		logger.Warn("the Mesh API cannot be reached; calls fail until it can", slog.String("upstream", target))
	}
}
