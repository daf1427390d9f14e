package telemetry_test

import (
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// BenchmarkRequest counts requests of one method, in one goroutine and in all.
func BenchmarkRequest(b *testing.B) {
	method := telemetry.New("v1").Method(contract.Methods()[0])
	request := func(n int) {
		method.Begin()
		method.End(telemetry.Outcome{
			Status: http.StatusOK, Code: codes.OK, RequestBytes: 120, ResponseBytes: 900,
			Duration: time.Duration(n%1000+1) * 100 * time.Microsecond,
		})
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			request(n)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for n := 0; p.Next(); n++ {
				request(n)
			}
		})
	})
}

// BenchmarkScrape gathers all metrics.
func BenchmarkScrape(b *testing.B) {
	metrics := telemetry.New("v1")
	b.ReportAllocs()
	for b.Loop() {
		scrape(b, metrics)
	}
}
