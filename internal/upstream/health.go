package upstream

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	// healthInterval is the time between two questions to an upstream that answers them, and
	// noHealthInterval to one that does not, since another version of it may.
	healthInterval   = 5 * time.Second
	noHealthInterval = time.Minute
	// healthTimeout is how long an answer may take.
	healthTimeout = 2 * time.Second
)

// Health asks the upstream whether it serves (grpc.health.v1.Health, the service ""). The answer is for
// readiness alone: calls are made whatever it is, since the upstream itself refuses what it cannot do.
//
// The health checking of grpc-go is not used, because it fails all calls while the upstream does not
// serve, and for an upstream that asks for credentials before it says that it has no such service.
type Health struct {
	client     grpc_health_v1.HealthClient
	notServing atomic.Bool
}

// NewHealth returns a Health that asks over conn. [Health.Run] asks.
func NewHealth(conn grpc.ClientConnInterface) *Health {
	return &Health{client: grpc_health_v1.NewHealthClient(conn)}
}

// Serving reports whether the upstream serves. Only its answer NOT_SERVING means that it does not: if
// it has no health service, does not answer, or was not asked yet, the connection is all that is known.
func (h *Health) Serving() bool { return !h.notServing.Load() }

// Run asks until ctx is done: every 5 seconds, or every minute if the upstream has no health service.
func (h *Health) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(h.ask(ctx))
		}
	}
}

// ask asks once, and returns the time until the next question.
func (h *Health) ask(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	answer, err := h.client.Check(ctx, new(grpc_health_v1.HealthCheckRequest), grpc.WaitForReady(true))
	// The answer is nil if there is an error, and its status then UNKNOWN.
	h.notServing.Store(answer.GetStatus() == grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	switch status.Code(err) {
	case codes.Unimplemented, codes.NotFound, codes.Unauthenticated, codes.PermissionDenied:
		return noHealthInterval
	default:
		return healthInterval
	}
}
