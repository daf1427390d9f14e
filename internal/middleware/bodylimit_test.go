package middleware

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

func TestBodyLimit(t *testing.T) {
	const limit = 8
	for _, test := range []struct {
		name     string
		length   int
		declared bool // in Content-Length
		rejected bool // by the middleware
		fails    bool // while it is read
	}{
		{"empty", 0, true, false, false},
		{"below", limit - 1, true, false, false},
		{"at", limit, true, false, false},
		{"over", limit + 1, true, true, false},
		{"below, not declared", limit - 1, false, false, false},
		{"at, not declared", limit, false, false, false},
		{"over, not declared", limit + 1, false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", test.length)))
			if !test.declared {
				r.ContentLength = -1
			}
			w, reached := httptest.NewRecorder(), false
			BodyLimit(limit)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				reached = true
				body, err := io.ReadAll(r.Body)
				_, tooLarge := errors.AsType[*http.MaxBytesError](err)
				if tooLarge != test.fails || !test.fails && len(body) != test.length {
					t.Errorf("read %d bytes, error %v", len(body), err)
				}
			})).ServeHTTP(w, r)
			if reached == test.rejected {
				t.Fatalf("handler reached: %t", reached)
			}
			if test.rejected {
				wantError(t, w, http.StatusRequestEntityTooLarge, apierror.BodyTooLarge)
			}
		})
	}
	// A request that was not made by net/http may have no body.
	BodyLimit(limit)(new(capture)).ServeHTTP(httptest.NewRecorder(), &http.Request{Header: http.Header{}})
}
