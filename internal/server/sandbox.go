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

// sandboxRoutes add what only a sandbox has: a way back to the seed, and time
// that can be moved. They need no key, as the sandbox's keys are public; a page
// of another site is refused, so that visiting one resets nobody's tests.
func sandboxRoutes(r chi.Router, mesh *sandbox.Sandbox) {
	sameSite := http.NewCrossOriginProtection()
	sameSite.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		apierror.Write(w, r, apierror.New(codes.PermissionDenied, apierror.CrossSite, "A page of another site may not control the sandbox."))
	}))
	r.With(sameSite.Handler).Post(wire.ResetPath, func(w http.ResponseWriter, r *http.Request) {
		if err := mesh.Reset(); err != nil {
			apierror.Write(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	r.With(sameSite.Handler).Post(wire.AdvancePath, func(w http.ResponseWriter, r *http.Request) {
		by, err := time.ParseDuration(r.URL.Query().Get(wire.AdvanceParameter))
		if err != nil {
			apierror.Write(w, r, apierror.Invalid(apierror.Violation{Field: wire.AdvanceParameter, Description: "say how far, such as ?by=5s"}))
			return
		}
		if err := mesh.Advance(by); err != nil {
			apierror.Write(w, r, apierror.Invalid(apierror.Violation{Field: wire.AdvanceParameter, Description: err.Error()}))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}
