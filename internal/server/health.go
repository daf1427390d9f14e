package server

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// readyWait is how long a readiness check waits for the connection to the upstream.
const readyWait = time.Second

// alive handles liveness checks. It always responds with 200.
func alive() http.Handler {
	return object(map[string]string{"status": "alive"})
}

// version responds with the version of this build.
func version(version string) http.Handler {
	return object(map[string]string{"version": version})
}

// ready handles readiness checks. It responds with 200 if the gateway is not stopping, its audit log
// works as far as it must, and it is connected, which may wait for the upstream.
func ready(o Options) http.Handler {
	ok := object(map[string]string{"status": "ready"})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.Stopping != nil && o.Stopping.Err() != nil {
			apierror.Write(w, errStopping())
			return
		}
		if o.Audit != nil && !o.Audit.Ready() {
			apierror.Write(w, apierror.New(codes.Unavailable, apierror.AuditUnavailable, "The gateway cannot write its audit log. See its log for the reason."))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readyWait)
		defer cancel()
		if !o.Ready(ctx) {
			apierror.Write(w, apierror.New(codes.Unavailable, apierror.UpstreamUnreachable, "The gateway is not connected to the Mesh API. Try again later."))
			return
		}
		ok.ServeHTTP(w, r)
	})
}

func object(value map[string]string) http.Handler {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // strings always marshal
	}
	body = append(body, '\n')
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", wire.JSON)
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(body)
	})
}
