package telemetry_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc/connectivity"

	"github.com/meshtrade/mesh-gateway/internal/admission"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// newMetrics returns metrics with all sources, which have distinct values.
func newMetrics() *telemetry.Metrics {
	metrics := telemetry.New("v1.2.3")
	metrics.RegisterAdmission(admission.New(contract.Methods()))
	metrics.RegisterBudget(budget.New(budget.Options{Limit: 12, MaxReply: 1}))
	metrics.RegisterPool(telemetry.Pool{
		Connections: func(state connectivity.State) int { return 20 + int(state) },
		InFlight:    number(30),
		Retired:     number(31),
		Retries:     count(32), RefusedRetries: count(33), Waits: count(34), Probes: count(35), Left: count(36),
	})
	metrics.Fallbacks().Inc()
	metrics.RegisterStreams(func() int { return 50 })
	return metrics
}

func number(n int64) func() int64 { return func() int64 { return n } }

func count(n uint64) func() uint64 { return func() uint64 { return n } }

// scrape returns the metrics in the text format.
func scrape(t testing.TB, metrics *telemetry.Metrics) string {
	t.Helper()
	response := get(t, metrics, "")
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %s %v", response.StatusCode, body, err)
	}
	return string(body)
}

func get(t testing.TB, metrics *telemetry.Metrics, accept string) *http.Response {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", accept)
	recorder := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(recorder, request)
	return recorder.Result()
}

// wantLines checks that each line is in the text.
func wantLines(t *testing.T, text string, want ...string) {
	t.Helper()
	lines := slices.Collect(strings.Lines(text))
	for _, line := range want {
		if !slices.Contains(lines, line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			var similar []string
			for _, other := range lines {
				if strings.HasPrefix(other, name) && !strings.HasSuffix(other, " 0\n") {
					similar = append(similar, other)
				}
			}
			t.Errorf("no line %s, but\n%s", line, strings.Join(similar, ""))
		}
	}
}

func TestSourcesAreReadAtEachScrape(t *testing.T) {
	wantLines(t, scrape(t, newMetrics()),
		`mesh_gateway_admission_limit{service="meshtrade.wallet.transfer.v1.TransferService"} 0`,
		`mesh_gateway_admission_in_flight{service="meshtrade.wallet.transfer.v1.TransferService"} 0`,
		`mesh_gateway_admission_queued{service="meshtrade.wallet.transfer.v1.TransferService"} 0`,
		"mesh_gateway_admission_gateway_calls 0",
		"mesh_gateway_admission_gateway_limit 0",
		`mesh_gateway_admission_refused_total{class="write"} 0`,
		`mesh_gateway_admission_refused_total{class="read"} 0`,
		`mesh_gateway_admission_refused_total{class="stream"} 0`,
		"mesh_gateway_admission_late_total 0",
		"mesh_gateway_budget_held_bytes 0",
		"mesh_gateway_budget_limit_bytes 12",
		"mesh_gateway_budget_refused_total 0",
		"mesh_gateway_budget_overshoot_total 0",
		`mesh_gateway_upstream_connections{state="idle"} 20`,
		`mesh_gateway_upstream_connections{state="connecting"} 21`,
		`mesh_gateway_upstream_connections{state="ready"} 22`,
		`mesh_gateway_upstream_connections{state="transient_failure"} 23`,
		"mesh_gateway_upstream_calls_in_flight 30",
		"mesh_gateway_upstream_connections_retired 31",
		"mesh_gateway_upstream_retries_total 32",
		"mesh_gateway_upstream_retries_refused_total 33",
		"mesh_gateway_upstream_waits_total 34",
		"mesh_gateway_upstream_probes_total 35",
		"mesh_gateway_upstream_connections_left_total 36",
		"mesh_gateway_reply_fallbacks_total 1",
		"mesh_gateway_streams_open 50",
	)

	metrics, open := telemetry.New("v1"), 1
	metrics.RegisterStreams(func() int { return open })
	wantLines(t, scrape(t, metrics), "mesh_gateway_streams_open 1")
	open = 2
	wantLines(t, scrape(t, metrics), "mesh_gateway_streams_open 2")
}

func TestTheBuildAndTheRuntimeAreExported(t *testing.T) {
	text := scrape(t, telemetry.New("v1.2.3"))
	for _, want := range []string{`version="v1.2.3"`, "\ngo_goroutines ", "\ngo_gc_gogc_percent ", "\nprocess_start_time_seconds "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestLint applies the rules of Prometheus to names, units and help texts.
func TestLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, newMetrics()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "mesh_gateway_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
}

var (
	helpLine = regexp.MustCompile(`(?m)^# HELP (\S+) (.+)$`)
	typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+) `)
)

func TestEveryMetricHasHelp(t *testing.T) {
	text := scrape(t, newMetrics())
	help := make(map[string]string)
	for _, match := range helpLine.FindAllStringSubmatch(text, -1) {
		help[match[1]] = match[2]
	}
	names := typeLine.FindAllStringSubmatch(text, -1)
	if len(names) < 15 {
		t.Fatalf("%d metrics in\n%s", len(names), text)
	}
	for _, name := range names {
		// Some texts of the runtime's metrics end without a full stop.
		if got := help[name[1]]; got == "" || strings.HasPrefix(name[1], "mesh_gateway_") && !strings.HasSuffix(got, ".") {
			t.Errorf("the help of %s is %q, want a sentence", name[1], got)
		}
	}
}

func TestFormats(t *testing.T) {
	for _, test := range []struct{ name, accept, want string }{
		{"a browser gets text", "text/html,*/*;q=0.8", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"},
		{"OpenMetrics", "application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"},
		{"protobuf, which has native histograms", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
			"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"},
	} {
		t.Run(test.name, func(t *testing.T) {
			response := get(t, newMetrics(), test.accept)
			if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || got != test.want {
				t.Errorf("%d %s, want %s", response.StatusCode, got, test.want)
			}
		})
	}
}

var rpcValue = regexp.MustCompile(`rpc="([^"]*)"`)

// TestEveryRPCIsExported wants all RPCs before the first request, and no others.
func TestEveryRPCIsExported(t *testing.T) {
	want := map[string]bool{"other": true}
	for _, method := range contract.Methods() {
		want[method.Name()] = true
	}
	for line := range strings.Lines(scrape(t, telemetry.New("v1"))) {
		if match := rpcValue.FindStringSubmatch(line); match != nil && strings.HasPrefix(line, "mesh_gateway_requests_total") {
			if !want[match[1]] {
				t.Errorf("%s is not in the contract or is exported twice", match[1])
			}
			delete(want, match[1])
		}
	}
	if len(want) > 0 {
		t.Errorf("not exported: %q", slices.Sorted(maps.Keys(want)))
	}
}
