package server

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/health"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// alive handles liveness checks. It always responds with 200.
func alive() http.Handler {
	return object(map[string]string{"status": "alive"})
}

// version responds with the version of this build.
func version(version string) http.Handler {
	return object(map[string]string{"version": version})
}

// ready handles readiness checks. It responds with 200 if no check prevents it and if stopping, which
// may be nil, is not done. The response lists all checks, and the error those that failed.
func ready(checks *health.Checks, stopping context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stopping != nil && stopping.Err() != nil {
			apierror.Write(w, errStopping())
			return
		}
		results := checks.Results(r.Context())
		if err := notReady(results); err != nil {
			apierror.Write(w, err)
			return
		}
		body, err := json.Marshal(struct {
			Status string          `json:"status"`
			Checks []health.Result `json:"checks"`
		}{"ready", results})
		if err != nil {
			apierror.Write(w, err)
			return
		}
		write(w, body)
	})
}

// notReady returns the error of a gateway that is not ready, or nil if it is. The first check that
// prevents it has the reason, and the details list all checks that failed.
func notReady(results []health.Result) error {
	var problems []string
	var reason apierror.Reason
	failure := new(errdetails.PreconditionFailure)
	for _, result := range results {
		if result.OK {
			continue
		}
		failure.Violations = append(failure.Violations, &errdetails.PreconditionFailure_Violation{
			Type: "READINESS", Subject: result.Name, Description: result.Problem,
		})
		if result.Blocks() {
			problems = append(problems, result.Problem)
			reason = cmp.Or(reason, result.Reason())
		}
	}
	if reason == "" {
		return nil
	}
	return apierror.New(codes.Unavailable, reason, strings.Join(problems, " ")+" Try again later.", failure)
}

func object(value map[string]string) http.Handler {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // strings always marshal
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { write(w, body) })
}

func write(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", wire.JSON)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body[:len(body):len(body)], '\n'))
}
