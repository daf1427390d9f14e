package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
)

func TestRateText(t *testing.T) {
	for _, test := range []struct {
		text string
		want middleware.Rate
		ok   bool
	}{
		{"0", middleware.Rate{}, true},
		{"600/1m", middleware.Rate{Requests: 600, Period: time.Minute}, true},
		{"10/s", middleware.Rate{Requests: 10, Period: time.Second}, true},
		{"1/24h", middleware.Rate{Requests: 1, Period: 24 * time.Hour}, true},
		{"1000000/1s", middleware.Rate{Requests: 1_000_000, Period: time.Second}, true},
		{"1000001/1s", middleware.Rate{}, false},
		{"1/25h", middleware.Rate{}, false},
		{"1/999ms", middleware.Rate{}, false},
		{"0/1m", middleware.Rate{}, false},
		{"-1/1m", middleware.Rate{}, false},
		{"600", middleware.Rate{}, false},
		{"600/", middleware.Rate{}, false},
		{"", middleware.Rate{}, false},
	} {
		t.Run(test.text, func(t *testing.T) {
			var got middleware.Rate
			err := got.UnmarshalText([]byte(test.text))
			if (err == nil) != test.ok || got != test.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestRateLimit(t *testing.T) {
	limiter, err := middleware.NewLimiter(middleware.Rate{Requests: 2, Period: time.Hour}, middleware.Rate{Requests: 1, Period: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	read, write := new(contract.Method), &contract.Method{Write: true}
	handler := func(method *contract.Method) http.Handler {
		ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		return middleware.ClientIP(nil)(limiter.ByAddress(method)(limiter.ByKey(method)(ok)))
	}
	call := func(method *contract.Method, address, key string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = address
		if key != "" {
			r.Header.Set("X-Api-Key", key)
		}
		w := httptest.NewRecorder()
		handler(method).ServeHTTP(w, r)
		return w
	}

	// The cases share the budgets, in this order.
	for _, test := range []struct {
		name, address, key string
		method             *contract.Method
		want               int
	}{
		{"below", "192.0.2.1:1", "a", read, http.StatusOK},
		{"at", "192.0.2.1:2", "a", read, http.StatusOK},
		{"over", "192.0.2.1:3", "a", read, http.StatusTooManyRequests},
		{"over from elsewhere", "192.0.2.2:1", "a", read, http.StatusTooManyRequests},
		{"a write has its own budget", "192.0.2.1:4", "a", write, http.StatusOK},
		{"which ends too", "192.0.2.1:5", "a", write, http.StatusTooManyRequests},
		{"another key", "192.0.2.1:6", "b", read, http.StatusOK},
		{"no key is counted by address", "192.0.2.9:1", "", read, http.StatusOK},
		{"an IPv6 host", "[2001:db8::1]:1", "", read, http.StatusOK},
		{"shares with its network", "[2001:db8::2]:1", "", read, http.StatusOK},
		{"and so is over", "[2001:db8::3]:1", "", read, http.StatusTooManyRequests},
		{"another network is not", "[2001:db8:0:1::1]:1", "", read, http.StatusOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := call(test.method, test.address, test.key)
			if w.Code != test.want {
				t.Fatalf("status %d, want %d", w.Code, test.want)
			}
			if policy := strings.Join(w.Header().Values("RateLimit-Policy"), ", "); !strings.Contains(policy, ";w=3600") {
				t.Errorf("RateLimit-Policy: %s", policy)
			}
			if after := w.Header().Get("Retry-After"); (after != "") != (w.Code == http.StatusTooManyRequests) {
				t.Errorf("Retry-After: %s on %d", after, w.Code)
			}
		})
	}
}

func TestNoRateLimit(t *testing.T) {
	limiter, err := middleware.NewLimiter(middleware.Rate{}, middleware.Rate{})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	limiter.ByKey(new(contract.Method))(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Header().Get("RateLimit") != "" {
		t.Error("tells of a limit that there is none of")
	}
}
