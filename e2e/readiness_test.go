package e2e

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/meshtrade/mesh-gateway/e2e/postgres"
	"github.com/meshtrade/mesh-gateway/e2e/redis"
	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// readyLimit is how long a change may take to appear in /readyz.
const readyLimit = 30 * time.Second

// awaitReady reads /readyz until want is true of it.
func awaitReady(t *testing.T, p *program, what string, want func(answer) bool) answer {
	t.Helper()
	deadline := time.Now().Add(readyLimit)
	for {
		a := p.call(t, http.MethodGet, "/readyz", nil, "")
		if want(a) {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("/readyz is not %s: %d %s\n%s", what, a.status, a.body, p.stderr)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// failed returns the names of the checks that failed, in the answer of a gateway that is ready or in
// the details of the error.
func failed(t *testing.T, a answer) (names []string) {
	t.Helper()
	if a.status != http.StatusOK {
		violations, _ := a.detail(t, "PreconditionFailure")["violations"].([]any)
		for _, violation := range violations {
			names = append(names, violation.(map[string]any)["subject"].(string))
		}
		return names
	}
	checks, _ := a.object(t)["checks"].([]any)
	for _, check := range checks {
		if check, _ := check.(map[string]any); check["ok"] != true {
			names = append(names, check["name"].(string))
		}
	}
	return names
}

// TestReadinessWithADatabase starts a gateway without its database, and stops the database later.
func TestReadinessWithADatabase(t *testing.T) {
	database, mesh := postgres.Start(t), meshtest.NewUpstream(t)
	if code, _, stderr := command(t, "store", "migrate", "--store", database.URL()); code != 0 {
		t.Fatal(stderr)
	}
	database.Kill(t)
	p := start(t, "--upstream", mesh.Target, "--upstream-plaintext", "--store", database.URL())
	write := func(key string) answer {
		return p.call(t, http.MethodPost, "/v1/iam/api_users/"+ulid+":activate", http.Header{
			"X-Api-Key": {strings.Repeat("k", 43)}, "X-Group": {group}, "Idempotency-Key": {key},
		}, "")
	}

	a := awaitReady(t, p, "refused for the store alone", func(a answer) bool {
		return a.status == http.StatusServiceUnavailable && slices.Equal(failed(t, a), []string{"store"})
	})
	refusal{http.StatusServiceUnavailable, 14, apierror.IdempotencyUnavailable, ""}.check(t, a)
	if strings.Contains(string(a.body), "/pg-") {
		t.Errorf("the address of the database is shown: %s", a.body)
	}
	refusal{http.StatusServiceUnavailable, 14, apierror.IdempotencyUnavailable, ""}.check(t, write("before"))
	if calls := mesh.Calls(); len(calls) > 0 {
		t.Errorf("Mesh was called: %v", calls)
	}

	database.Run(t)
	awaitReady(t, p, "ready", func(a answer) bool { return a.status == http.StatusOK && len(failed(t, a)) == 0 })
	if a := write("during"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}

	// All replicas share the database, and reads do without it.
	database.Kill(t)
	awaitReady(t, p, "ready without its store", func(a answer) bool {
		return a.status == http.StatusOK && slices.Equal(failed(t, a), []string{"store"})
	})
	refusal{http.StatusServiceUnavailable, 14, apierror.IdempotencyUnavailable, ""}.check(t, write("after"))
	if a := p.call(t, http.MethodGet, "/v1/groups", http.Header{"X-Api-Key": {strings.Repeat("k", 43)}, "X-Group": {group}}, ""); a.status != http.StatusOK {
		t.Errorf("a read: %d %s", a.status, a.body)
	}
	database.Run(t)
	awaitReady(t, p, "ready again", func(a answer) bool { return a.status == http.StatusOK && len(failed(t, a)) == 0 })
	for _, want := range []string{`"check":"store"`, "succeeded again", "the database of idempotency keys cannot be reached"} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("the log does not contain %s", want)
		}
	}
}

// TestADatabaseThatIsNotReadyIsAMistake starts gateways that a database refuses.
func TestADatabaseThatIsNotReadyIsAMistake(t *testing.T) {
	database := postgres.Start(t)
	for name, test := range map[string]struct{ url, want string }{
		"no tables":   {database.URL(), "store migrate"},
		"no database": {strings.Replace(database.URL(), "/postgres?", "/absent?", 1), `database "absent" does not exist`},
	} {
		code, _, stderr := command(t, "serve", "--sandbox", "--listen", "127.0.0.1:0", "--admin-listen", "", "--store", test.url)
		if code != 1 || !strings.Contains(stderr, "--store: ") || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit status %d\n%s", name, code, stderr)
		}
	}
}

// TestReadinessWithAnUpstreamThatDoesNotServe changes what an upstream says of its health.
func TestReadinessWithAnUpstreamThatDoesNotServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	upstream, states := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(upstream, states)
	done := make(chan error, 1)
	go func() { done <- upstream.Serve(listener) }()
	t.Cleanup(func() {
		upstream.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	states.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	p := start(t, "--upstream", listener.Addr().String(), "--upstream-plaintext")
	for _, step := range []struct {
		state  grpc_health_v1.HealthCheckResponse_ServingStatus
		status int
		failed []string
	}{
		{grpc_health_v1.HealthCheckResponse_NOT_SERVING, http.StatusServiceUnavailable, []string{"upstream_health"}},
		{grpc_health_v1.HealthCheckResponse_SERVING, http.StatusOK, nil},
		{grpc_health_v1.HealthCheckResponse_NOT_SERVING, http.StatusServiceUnavailable, []string{"upstream_health"}},
	} {
		states.SetServingStatus("", step.state)
		a := awaitReady(t, p, step.state.String(), func(a answer) bool {
			return a.status == step.status && slices.Equal(failed(t, a), step.failed)
		})
		if a.status != http.StatusOK {
			refusal{http.StatusServiceUnavailable, 14, apierror.UpstreamUnreachable, ""}.check(t, a)
		}
	}
}

// TestReadinessWithRedis stops the Redis of two gateways.
func TestReadinessWithRedis(t *testing.T) {
	shared := redis.Start(t)
	local := start(t, "--sandbox", "--redis", shared.URL())
	refuse := start(t, "--sandbox", "--redis", shared.URL(), "--redis-unavailable", "refuse")
	both := []*program{local, refuse}
	for _, p := range both {
		awaitReady(t, p, "ready", func(a answer) bool { return a.status == http.StatusOK && len(failed(t, a)) == 0 })
	}
	shared.Kill(t)
	for _, p := range both { // a request finds that Redis does not answer
		p.call(t, http.MethodGet, "/v1/groups", as(credential(t, "Broker Admin")), "")
	}
	for p, status := range map[*program]int{local: http.StatusOK, refuse: http.StatusServiceUnavailable} {
		a := awaitReady(t, p, "without Redis", func(a answer) bool { return slices.Equal(failed(t, a), []string{"redis"}) })
		if a.status != status {
			t.Errorf("%d %s, want %d", a.status, a.body, status)
		}
	}
	shared.Run(t)
	for _, p := range both {
		awaitReady(t, p, "ready again", func(a answer) bool { return a.status == http.StatusOK && len(failed(t, a)) == 0 })
	}
}
