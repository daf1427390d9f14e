package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

func TestTLS(t *testing.T) {
	m := telemetry.New("test")
	expires, current := time.Unix(1_900_000_000, 0), true
	m.RegisterTLS("clients", telemetry.TLS{NotAfter: func() time.Time { return expires }, Current: func() bool { return current }})
	m.RegisterTLS("upstream", telemetry.TLS{NotAfter: func() time.Time { return time.Time{} }, Current: func() bool { return true }})
	count := m.HTTP2Errors()
	count("conn_closed")
	count("conn_closed")

	scrape := func() string {
		response := httptest.NewRecorder()
		m.Handler().ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return response.Body.String()
	}
	want := func(lines ...string) {
		t.Helper()
		body := scrape()
		for _, line := range lines {
			if !strings.Contains(body, "\n"+line+"\n") {
				t.Errorf("no line %s", line)
			}
		}
		if strings.Contains(body, `not_after_timestamp_seconds{side="upstream"}`) {
			t.Error("there is a time for a side without a certificate")
		}
	}
	want(`mesh_gateway_tls_certificate_not_after_timestamp_seconds{side="clients"} 1.9e+09`,
		`mesh_gateway_tls_last_reload_successful{side="clients"} 1`,
		`mesh_gateway_tls_last_reload_successful{side="upstream"} 1`,
		`mesh_gateway_http2_errors_total{error="conn_closed"} 2`)
	expires, current = expires.Add(100*time.Second), false
	want(`mesh_gateway_tls_certificate_not_after_timestamp_seconds{side="clients"} 1.9000001e+09`,
		`mesh_gateway_tls_last_reload_successful{side="clients"} 0`)
}
