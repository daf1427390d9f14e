package main

import (
	"context"
	"errors"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/audit"
	"github.com/meshtrade/mesh-gateway/internal/health"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
)

// readinessChecks are the checks of /readyz, besides whether the gateway shuts down.
func readinessChecks(conn *upstream.Pool, asked *upstream.Health, store idempotency.Store) []health.Check {
	return []health.Check{
		{
			Name: "upstream", Problem: "The gateway is not connected to the Mesh API.", Reason: apierror.UpstreamUnreachable,
			Run: func(ctx context.Context) error {
				if !conn.WaitUntilReady(ctx) {
					return errors.New("not connected")
				}
				return nil
			},
		},
		{
			Name: "upstream_health", Problem: "The Mesh API says that it is not serving.", Reason: apierror.UpstreamUnreachable,
			Run: func(context.Context) error {
				if !asked.Serving() {
					return errors.New("the upstream says NOT_SERVING")
				}
				return nil
			},
		},
		{
			// Reads, and writes without a key, do without the store.
			Name: "store", Weight: health.AtStart, Problem: "The store of idempotency keys cannot be reached. Writes with an Idempotency-Key are refused, and no stream tickets are issued.", Reason: apierror.IdempotencyUnavailable,
			Run: store.Ping,
		},
	}
}

// redisCheck is the check of the rate limits that gateways share. If requests are refused while Redis
// does not answer, the gateway can serve none.
func redisCheck(shared *ratelimit.Redis, unavailable ratelimit.Unavailable) health.Check {
	check := health.Check{
		Name: "redis", Weight: health.Advisory, Problem: "Redis does not answer. Rate limits are not shared.", Reason: apierror.RateLimitUnavailable,
		Run: func(context.Context) error {
			if !shared.Up() {
				return errors.New("redis does not answer")
			}
			return nil
		},
	}
	if unavailable == ratelimit.Refuse {
		check.Weight, check.Problem = health.Required, "Redis does not answer, and requests are refused."
	}
	return check
}

// auditCheck is the check of the audit log, as far as it must work.
func auditCheck(log *audit.Log) health.Check {
	return health.Check{
		Name: "audit", Problem: "The gateway cannot write its audit log.", Reason: apierror.AuditUnavailable,
		Run: func(context.Context) error {
			if !log.Ready() {
				return errors.New("the last line could not be written")
			}
			return nil
		},
	}
}
