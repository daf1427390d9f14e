package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
)

func TestDeadline(t *testing.T) {
	service := limitorderv1.File_meshtrade_trading_limit_order_v1_service_proto.Services().Get(0)
	unary := &contract.Method{Descriptor: service.Methods().ByName("GetLimitOrder")}
	stream := &contract.Method{Descriptor: service.Methods().ByName("MonitorLimitOrder")}
	const limit = 10 * time.Second

	for _, test := range []struct {
		name   string
		method *contract.Method
		header string
		status int
		want   time.Duration // 0 is no deadline
	}{
		{"the limit", unary, "", http.StatusOK, limit},
		{"below the limit", unary, "2.5", http.StatusOK, 2500 * time.Millisecond},
		{"at the limit", unary, "10", http.StatusOK, limit},
		{"over the limit", unary, "11", http.StatusOK, limit},
		{"a stream has none", stream, "", http.StatusOK, 0},
		{"unless its client wants one", stream, "60", http.StatusOK, time.Minute},
		{"zero", unary, "0", http.StatusBadRequest, 0},
		{"below zero", unary, "-1", http.StatusBadRequest, 0},
		{"a day", unary, "86400", http.StatusOK, limit},
		{"more than a day", unary, "86401", http.StatusBadRequest, 0},
		{"no number", unary, "5s", http.StatusBadRequest, 0},
		{"NaN", unary, "NaN", http.StatusBadRequest, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var left time.Duration
			handler := middleware.Deadline(test.method, limit)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if deadline, ok := r.Context().Deadline(); ok {
					left = time.Until(deadline)
				}
			}))
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			if test.header != "" {
				r.Header.Set(middleware.RequestTimeoutHeader, test.header)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.status {
				t.Fatalf("status %d, want %d", w.Code, test.status)
			}
			// A second for a machine that is busy.
			if left > test.want || left < test.want-time.Second {
				t.Errorf("%s left, want %s", left, test.want)
			}
		})
	}
}
