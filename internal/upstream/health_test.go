package upstream_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/upstream"
)

// healthServer is a connection to an upstream that answers questions about its health.
type healthServer struct {
	grpc.ClientConnInterface

	mu     sync.Mutex
	answer func(ctx context.Context, reply *grpc_health_v1.HealthCheckResponse) error
	asked  int
}

func (s *healthServer) Invoke(ctx context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	s.mu.Lock()
	s.asked++
	answer := s.answer
	s.mu.Unlock()
	return answer(ctx, reply.(*grpc_health_v1.HealthCheckResponse))
}

func (s *healthServer) set(answer func(context.Context, *grpc_health_v1.HealthCheckResponse) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func says(state grpc_health_v1.HealthCheckResponse_ServingStatus) func(context.Context, *grpc_health_v1.HealthCheckResponse) error {
	return func(_ context.Context, reply *grpc_health_v1.HealthCheckResponse) error {
		reply.Status = state
		return nil
	}
}

func fails(code codes.Code) func(context.Context, *grpc_health_v1.HealthCheckResponse) error {
	return func(context.Context, *grpc_health_v1.HealthCheckResponse) error { return status.Error(code, "no") }
}

func TestHealth(t *testing.T) {
	hangs := func(ctx context.Context, _ *grpc_health_v1.HealthCheckResponse) error {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	for _, test := range []struct {
		name    string
		answer  func(context.Context, *grpc_health_v1.HealthCheckResponse) error
		serving bool
		asked   int // in a minute
	}{
		{"serving", says(grpc_health_v1.HealthCheckResponse_SERVING), true, 12},
		{"not serving", says(grpc_health_v1.HealthCheckResponse_NOT_SERVING), false, 12},
		{"unknown", says(grpc_health_v1.HealthCheckResponse_UNKNOWN), true, 12},
		{"no health service", fails(codes.Unimplemented), true, 1},
		{"no such service", fails(codes.NotFound), true, 1},
		{"it wants a key", fails(codes.Unauthenticated), true, 1},
		{"it wants a role", fails(codes.PermissionDenied), true, 1},
		{"unavailable", fails(codes.Unavailable), true, 12},
		{"no answer", hangs, true, 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &healthServer{answer: test.answer}
				health := upstream.NewHealth(server)
				if !health.Serving() {
					t.Error("not serving before it was asked")
				}
				ctx, stop := context.WithCancel(t.Context())
				go health.Run(ctx)
				time.Sleep(time.Minute - time.Millisecond)
				if got := health.Serving(); got != test.serving {
					t.Errorf("serving: %t", got)
				}
				if server.asked != test.asked {
					t.Errorf("asked %d times, want %d", server.asked, test.asked)
				}
				stop()
				synctest.Wait()
			})
		})
	}
}

func TestHealthChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := new(healthServer)
		health := upstream.NewHealth(server)
		ctx, stop := context.WithCancel(t.Context())
		server.set(says(grpc_health_v1.HealthCheckResponse_SERVING))
		go health.Run(ctx)
		for _, step := range []struct {
			answer func(context.Context, *grpc_health_v1.HealthCheckResponse) error
			want   bool
		}{
			{says(grpc_health_v1.HealthCheckResponse_NOT_SERVING), false},
			{says(grpc_health_v1.HealthCheckResponse_SERVING), true},
			{says(grpc_health_v1.HealthCheckResponse_NOT_SERVING), false},
			{fails(codes.Unavailable), true}, // the connection is what is known
		} {
			server.set(step.answer)
			time.Sleep(6 * time.Second)
			if got := health.Serving(); got != step.want {
				t.Errorf("serving: %t, want %t", got, step.want)
			}
		}
		stop()
		synctest.Wait()
	})
}
