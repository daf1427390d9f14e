package telemetry_test

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

func TestCallIsFoundInItsContext(t *testing.T) {
	type key struct{}
	call := telemetry.NewCall(context.WithValue(t.Context(), key{}, "kept"))
	ctx, cancel := context.WithTimeout(call, time.Hour)
	defer cancel()
	if telemetry.CallOf(ctx) != call || telemetry.CallOf(context.WithoutCancel(ctx)) != call || ctx.Value(key{}) != "kept" {
		t.Error("the call, or a value of its parent, is not found")
	}
	if telemetry.CallOf(t.Context()) != nil {
		t.Error("there is a call in a context without one")
	}
}

func TestCallAddsUpItsCalls(t *testing.T) {
	call := telemetry.NewCall(t.Context())
	if _, called := call.Upstream(); called || call.Sent() {
		t.Error("there was a call already")
	}
	call.Called(time.Second, false)
	call.Called(time.Second, true)
	call.Called(time.Second, false)
	if took, called := call.Upstream(); took != 3*time.Second || !called || !call.Sent() {
		t.Errorf("%s, sent %t", took, call.Sent())
	}
}

func TestCallerIsTheHashThatMeshKnows(t *testing.T) {
	// printf %s a-key | openssl dgst -sha256 -binary | base64
	if got := telemetry.Caller(sha256.Sum256([]byte("a-key"))).String(); got != "KooSQPUGNmVVIKyO0iqilHO4UXtKv9vDvAO8rXP8iEk=" {
		t.Errorf("%s", got)
	}
	if got := (telemetry.Caller{}).String(); got != "" {
		t.Errorf("nobody is %q", got)
	}
}
