package server

import (
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// addSandboxRoutes adds the routes that reset the sandbox and advance its clock. They require no
// key, since the keys of the sandbox are public. Requests from pages of other sites are rejected, so
// that visiting one cannot reset a test in progress.
func addSandboxRoutes(r chi.Router, mesh *sandbox.Sandbox) {
	sameSite := http.NewCrossOriginProtection()
	sameSite.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		apierror.Write(w, apierror.New(codes.PermissionDenied, apierror.CrossSite, "Pages from other sites cannot control the sandbox. The sandbox was not changed."))
	}))
	r.With(sameSite.Handler).Post(wire.ResetPath, func(w http.ResponseWriter, r *http.Request) {
		if err := mesh.Reset(); err != nil {
			apierror.Write(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	r.With(sameSite.Handler).Post(wire.AdvancePath, func(w http.ResponseWriter, r *http.Request) {
		by, err := time.ParseDuration(r.URL.Query().Get(wire.AdvanceParameter))
		if err != nil {
			apierror.Write(w, apierror.Invalid(apierror.Violation{Field: wire.AdvanceParameter, Description: "must be a duration, such as ?by=5s"}))
			return
		}
		if err := mesh.Advance(by); err != nil {
			apierror.Write(w, apierror.Invalid(apierror.Violation{Field: wire.AdvanceParameter, Description: err.Error()}))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}
