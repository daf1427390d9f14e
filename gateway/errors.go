package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// NotFound answers a path that is no route.
func NotFound(w http.ResponseWriter, r *http.Request) {
	apierror.Write(w, r, apierror.New(codes.NotFound, apierror.UnknownPath,
		"There is nothing at "+r.URL.Path+". The routes are listed at /docs."))
}

// MethodNotAllowed answers a path that is a route of another method, with the
// methods that routes have for it in Allow (RFC 9110, section 15.5.6).
func MethodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.RawPath
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
		apierror.Write(w, r, apierror.New(codes.Unimplemented, apierror.MethodNotAllowed,
			r.URL.Path+" does not take "+r.Method+", only "+list+".").WithHTTPStatus(http.StatusMethodNotAllowed))
	}
}

// writeError is the runtime's error handler.
func writeError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	apierror.Write(w, r, withContext(r.Context(), err))
}

// streamStatus is the runtime's handler of an error on a stream.
func streamStatus(ctx context.Context, err error) *status.Status {
	if end, ok := ctx.Value(outcomeKey{}).(*outcome); ok {
		end.failed = true
	}
	st, _ := status.FromError(withContext(ctx, err))
	return st
}

// withContext words the end of the request's own context, which reaches us as
// a bare "context deadline exceeded" or "context canceled".
func withContext(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if errors.Is(context.Cause(ctx), errDraining) {
		return apierror.New(codes.Unavailable, apierror.Draining, "The gateway is about to stop. Connect again; another will answer.")
	}
	if st, ok := status.FromError(err); ok && len(st.Details()) > 0 {
		return err
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return apierror.New(codes.DeadlineExceeded, apierror.UpstreamTimeout, "The Mesh API did not answer in time.")
	case codes.Canceled:
		return apierror.New(codes.Canceled, apierror.ClientClosedRequest, "The client left before the answer.")
	}
	return err
}

// routingError is reached where the runtime's router disagrees with ours,
// which the tests rule out for every route.
func routingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, _ int) {
	NotFound(w, r)
}
