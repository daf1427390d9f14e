package server

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// notFound responds to requests for a path without a route. The hint, which may be "", says where
// the routes are listed.
func notFound(hint string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		message := "There is no route for " + r.URL.Path + "."
		if hint != "" {
			message += " " + hint
		}
		apierror.Write(w, apierror.New(codes.NotFound, apierror.UnknownPath, message))
	}
}

// methodNotAllowed responds to requests for a path that has no route for their method. Allow lists
// the methods that have one (RFC 9110, section 15.5.6).
func methodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.RawPath // chi matches the escaped path if there is one
		if path == "" {
			path = r.URL.Path
		}
		var allowed []string
		for _, method := range []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		} {
			if routes.Match(chi.NewRouteContext(), method, path) {
				allowed = append(allowed, method)
			}
		}
		list := strings.Join(allowed, ", ")
		w.Header().Set("Allow", list)
		apierror.Write(w, apierror.New(codes.Unimplemented, apierror.MethodNotAllowed,
			r.URL.Path+" does not support "+r.Method+". Allowed: "+list+".").WithHTTPStatus(http.StatusMethodNotAllowed))
	}
}
