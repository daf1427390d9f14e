package server

import (
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// addSandboxRoutes adds the routes that reset the sandbox and advance its clock. They require no
// key, since the keys of the sandbox are public. A page in a browser must not control it, or visiting
// a site could reset a test in progress. Hosts other than this computer are those of publicURL.
func addSandboxRoutes(r chi.Router, mesh *sandbox.Sandbox, onReset func(), publicURL string) {
	var hosts []string
	if public, err := url.Parse(publicURL); err == nil && public.Hostname() != "" {
		hosts = append(hosts, public.Hostname())
	}
	own := middleware.OwnRequests(
		"The sandbox is only controlled by requests for localhost, loopback addresses and the host of --public-url. The sandbox was not changed.",
		"Pages from other sites cannot control the sandbox. The sandbox was not changed.",
		hosts...)
	r.With(own).Post(wire.ResetPath, func(w http.ResponseWriter, r *http.Request) {
		if onReset != nil {
			onReset()
		}
		if err := mesh.Reset(); err != nil {
			apierror.Write(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	r.With(own).Post(wire.AdvancePath, func(w http.ResponseWriter, r *http.Request) {
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
