package server_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
)

// BenchmarkRequests sends requests through all routes and middleware, over a sandbox in another
// process. Time and allocations do not include an HTTP client or a network in front of the gateway.
//
//	go test ./internal/server -run '^$' -bench Requests -benchmem
func BenchmarkRequests(b *testing.B) {
	bench := newBench(b)
	defer bench.close()
	routes := bench.server.Config.Handler
	caller := sandbox.Seeded()[0]
	order := `{"owner": "` + caller.Group + `", "account": "accounts/00000000000000000000000001", "externalReference": "`
	rest := `", "side": "LIMIT_ORDER_SIDE_BUY",
		"quantity": {"token": {"code": "XLM", "issuer": "__LEDGER__", "ledger": "LEDGER_STELLAR"}, "value": {"value": "0.0000001"}},
		"limitPrice": {"token": {"code": "USDC", "issuer": "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN",
			"ledger": "LEDGER_STELLAR"}, "value": {"value": "0.01"}}}`
	run := strconv.FormatInt(int64(b.N), 10)
	for _, test := range []struct{ name, verb, target string }{
		{"get", http.MethodGet, "/v1/limit_orders/00000000000000000000000002"},
		{"search", http.MethodGet, "/v1/groups:search?displayName=harbour"},
		{"list", http.MethodGet, "/v1/accounts"},
		{"create", http.MethodPost, "/v1/limit_orders"},
	} {
		n := 0
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				var body io.Reader
				if test.verb == http.MethodPost {
					n++
					body = strings.NewReader(order + run + "-" + strconv.Itoa(n) + rest)
				}
				request := httptest.NewRequest(test.verb, test.target, body)
				request.Header = http.Header{
					"X-Api-Key": {caller.APIKey}, "X-Group": {caller.Group}, "Accept": {"*/*"},
					"User-Agent": {"curl/8"}, "Accept-Encoding": {"gzip"},
				}
				if body != nil {
					request.Header.Set("Content-Type", "application/json")
				}
				response := httptest.NewRecorder()
				b.StartTimer()
				routes.ServeHTTP(response, request)
				if response.Code != http.StatusOK {
					b.Fatalf("%d %s", response.Code, bytes.TrimSpace(response.Body.Bytes()))
				}
			}
		})
	}
}
