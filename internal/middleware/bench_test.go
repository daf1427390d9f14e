package middleware

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// BenchmarkAccessLog writes the record of a read that succeeded.
func BenchmarkAccessLog(b *testing.B) {
	log := telemetry.NewLogWriter(io.Discard)
	defer log.Close()
	observe := AccessLog(slog.New(telemetry.NewHandler(log, io.Discard, telemetry.JSONFormat, slog.LevelInfo, func(string) string { return "" })), 1)
	request := headers(httptest.NewRequest(http.MethodGet, "/v1/limit_orders/00000000000000000000000002", nil),
		"X-Group", "groups/00000000000000000000BR0KER", "User-Agent", "curl/8")
	call := telemetry.NewCall(request.Context())
	call.Caller = telemetry.Caller{1}
	call.Called(time.Millisecond, true)
	method := contract.ByName(streamMethod)
	o := &Observation{
		Request: request, Header: http.Header{"X-Request-Id": {"01ARZ3NDEKTSV4RRFFQ69G5FAV"}}, Path: request.URL.Path, Method: method, Binding: method.Bindings[0],
		Route: "/v1/{name=limit_orders/*}:monitor", Status: http.StatusOK, Bytes: 900, Duration: time.Millisecond, Call: call, Code: codes.OK,
	}
	b.ReportAllocs()
	for b.Loop() {
		observe(o)
	}
}
