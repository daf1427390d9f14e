package apierror_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

// observer is a response writer that learns of the error, and wrapper one around it.
type observer struct {
	*httptest.ResponseRecorder
	observed error
}

func (w *observer) ObserveError(err error) { w.observed = err }

type wrapper struct{ http.ResponseWriter }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestObserver(t *testing.T) {
	foreign, err := status.New(codes.Aborted, "no").WithDetails(&errdetails.ErrorInfo{Reason: "ITS_OWN", Domain: "mesh.trade"})
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("dial tcp: refused")
	unreachable := apierror.New(codes.Unavailable, apierror.UpstreamUnreachable, "not now")
	for _, test := range []struct {
		name   string
		err    error
		code   codes.Code
		reason apierror.Reason
		cause  error
	}{
		{"an error of the gateway", unreachable, codes.Unavailable, apierror.UpstreamUnreachable, nil},
		{"an error with a cause", unreachable.WithCause(cause), codes.Unavailable, apierror.UpstreamUnreachable, cause},
		{"a wrapped error", fmt.Errorf("x: %w", unreachable.WithCause(cause)), codes.Unavailable, apierror.UpstreamUnreachable, cause},
		{"a status of the upstream", status.Error(codes.NotFound, "no"), codes.NotFound, "", nil},
		{"a reason of another domain", foreign.Err(), codes.Aborted, "", nil},
		{"an error without a status", cause, codes.Internal, apierror.Internal, cause},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &observer{ResponseRecorder: httptest.NewRecorder()}
			apierror.Write(wrapper{w}, test.err)
			observed := w.observed
			if got := apierror.CodeOf(observed); got != test.code {
				t.Errorf("code %s, want %s", got, test.code)
			}
			if got := apierror.ReasonOf(observed); got != string(test.reason) {
				t.Errorf("reason %s, want %s", got, test.reason)
			}
			if got := apierror.CauseOf(observed); got != test.cause { //nolint:errorlint // the very error is wanted
				t.Errorf("cause %v, want %v", got, test.cause)
			}
		})
	}
}

func TestObserveWithoutAnObserver(t *testing.T) {
	apierror.Observe(httptest.NewRecorder(), errors.New("failed")) // must not panic
}
