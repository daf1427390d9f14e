package telemetry_test

import (
	"bufio"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

const getGroup = "/meshtrade.iam.group.v1.GroupService/GetGroup"

func TestRequestsByOutcome(t *testing.T) {
	for _, test := range []struct {
		name   string
		rpc    string // "" is a route that is not an RPC
		status int
		code   codes.Code
		want   string
	}{
		{"success", getGroup, 200, codes.OK, `{code="OK",rpc="` + getGroup + `",status="200"}`},
		{"refusal of the upstream", getGroup, 404, codes.NotFound, `{code="NOT_FOUND",rpc="` + getGroup + `",status="404"}`},
		{"a status that is more specific than the code", getGroup, 413, codes.ResourceExhausted, `{code="RESOURCE_EXHAUSTED",rpc="` + getGroup + `",status="413"}`},
		{"a stream that ends with an error", getGroup, 200, codes.Unavailable, `{code="UNAVAILABLE",rpc="` + getGroup + `",status="200"}`},
		{"the client closed the request", getGroup, 499, codes.Canceled, `{code="CANCELLED",rpc="` + getGroup + `",status="499"}`},
		{"a code that gRPC does not have", getGroup, 500, 17, `{code="UNKNOWN",rpc="` + getGroup + `",status="500"}`},
		{"a status that the gateway does not have", getGroup, 418, codes.OK, `{code="OK",rpc="` + getGroup + `",status="other"}`},
		{"no status", getGroup, 0, codes.OK, `{code="OK",rpc="` + getGroup + `",status="other"}`},
		{"a route that is not an RPC", "", 304, codes.OK, `{code="OK",rpc="other",status="304"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			metrics := telemetry.New("v1")
			method := metrics.Method(contract.ByName(test.rpc))
			for range 2 {
				method.Begin()
				method.End(telemetry.Outcome{Status: test.status, Code: test.code})
			}
			wantLines(t, scrape(t, metrics), "mesh_gateway_requests_total"+test.want+" 2")
		})
	}
}

func TestInFlight(t *testing.T) {
	metrics := telemetry.New("v1")
	method := metrics.Method(contract.ByName(getGroup))
	want := func(n int) {
		t.Helper()
		wantLines(t, scrape(t, metrics), fmt.Sprintf(`mesh_gateway_requests_in_flight{rpc="%s"} %d`, getGroup, n), `mesh_gateway_requests_in_flight{rpc="other"} 0`)
	}
	want(0)
	method.Begin()
	method.Begin()
	want(2)
	method.End(telemetry.Outcome{Status: 200})
	want(1)
	method.End(telemetry.Outcome{Status: 500, Code: codes.Internal})
	want(0)
}

func TestBytesAndDuration(t *testing.T) {
	metrics := telemetry.New("v1")
	method := metrics.Method(contract.ByName(getGroup))
	for _, outcome := range []telemetry.Outcome{
		{Status: 200, RequestBytes: 100, ResponseBytes: 2000, Duration: time.Millisecond},
		{Status: 200, RequestBytes: 5, ResponseBytes: 50, Duration: 3 * time.Second},
		{Status: 400, RequestBytes: -1, ResponseBytes: -1, Duration: time.Hour}, // of unknown length
	} {
		method.Begin()
		method.End(outcome)
	}
	label := `{rpc="` + getGroup + `"`
	wantLines(t, scrape(t, metrics),
		"mesh_gateway_request_bytes_total"+label+"} 105",
		"mesh_gateway_response_bytes_total"+label+"} 2050",
		"mesh_gateway_request_duration_seconds_bucket"+label+`,le="0.001"} 1`,
		"mesh_gateway_request_duration_seconds_bucket"+label+`,le="2.5"} 1`,
		"mesh_gateway_request_duration_seconds_bucket"+label+`,le="5"} 2`,
		"mesh_gateway_request_duration_seconds_bucket"+label+`,le="30"} 2`,
		"mesh_gateway_request_duration_seconds_bucket"+label+`,le="+Inf"} 3`,
		"mesh_gateway_request_duration_seconds_count"+label+"} 3",
		"mesh_gateway_request_duration_seconds_sum"+label+"} 3603.001",
	)
}

// TestNativeHistogram reads the format that has native histograms.
func TestNativeHistogram(t *testing.T) {
	metrics := telemetry.New("v1")
	method := metrics.Method(nil)
	for n := range 100 {
		method.Begin()
		method.End(telemetry.Outcome{Status: 200, Duration: time.Duration(n+1) * time.Millisecond})
	}
	response := get(t, metrics, "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")
	for reader := bufio.NewReader(response.Body); ; {
		family := new(dto.MetricFamily)
		if err := protodelim.UnmarshalFrom(reader, family); err != nil {
			t.Fatalf("no histogram of other routes: %v", err)
		}
		for _, metric := range family.GetMetric() {
			if family.GetName() != "mesh_gateway_request_duration_seconds" || metric.GetLabel()[0].GetValue() != "other" {
				continue
			}
			// From 1 to 100 ms are 6.6 powers of two, each of 8 buckets.
			h := metric.GetHistogram()
			if h.GetSampleCount() != 100 || h.GetSchema() != 3 || len(h.GetPositiveDelta()) < 40 {
				t.Errorf("%v", h)
			}
			return
		}
	}
}

// TestExemplars has requests that are sampled, in two buckets.
func TestExemplars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := telemetry.New("v1")
		method := metrics.Method(contract.ByName(getGroup))
		ended := func(took time.Duration, traceID string) {
			method.Begin()
			method.End(telemetry.Outcome{Status: 200, Duration: took, TraceID: traceID})
		}
		exemplars := func() (ids []string) {
			response := get(t, metrics, "application/openmetrics-text; version=1.0.0")
			for lines := bufio.NewScanner(response.Body); lines.Scan(); {
				if _, exemplar, found := strings.Cut(lines.Text(), `# {trace_id="`); found {
					id, _, _ := strings.Cut(exemplar, `"`)
					ids = append(ids, id)
				}
			}
			return ids
		}
		want := func(when string, want ...string) {
			t.Helper()
			if got := exemplars(); !slices.Equal(got, want) {
				t.Errorf("%s, the exemplars are %q, want %q", when, got, want)
			}
		}
		ended(2*time.Millisecond, "")
		want("without a trace")
		ended(2*time.Millisecond, "first")
		ended(2*time.Millisecond, "second")
		want("within a second", "first")
		ended(time.Minute, "slow")
		want("in another bucket", "first", "slow")
		time.Sleep(time.Second)
		ended(2*time.Millisecond, "third")
		want("after a second", "third", "slow")
		wantLines(t, scrape(t, metrics), fmt.Sprintf(`mesh_gateway_request_duration_seconds_count{rpc="%s"} 5`, getGroup))
	})
}

var statusOfReason = regexp.MustCompile(`\b[1-5][0-9]{2}\b`)

// TestStatusesOfErrorsAreKnown counts a request of each status that an error of the gateway or of the
// upstream has.
func TestStatusesOfErrorsAreKnown(t *testing.T) {
	statuses := make(map[int]bool)
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		statuses[apierror.HTTPStatus(code)] = true
	}
	for _, reason := range apierror.Reasons() {
		before, _, _ := strings.Cut(reason.Meaning(), ":")
		for _, text := range statusOfReason.FindAllString(before, -1) {
			status, _ := strconv.Atoi(text)
			statuses[status] = true
		}
	}
	if len(statuses) < 15 {
		t.Fatalf("%v", statuses)
	}
	metrics := telemetry.New("v1")
	for status := range statuses {
		metrics.Method(nil).End(telemetry.Outcome{Status: status})
	}
	if text := scrape(t, metrics); strings.Contains(text, `status="other"`) {
		t.Error("a status of the gateway is not in the list of statusOf")
		for status := range statuses {
			if !strings.Contains(text, `rpc="other",status="`+strconv.Itoa(status)+`"`) {
				t.Error(status)
			}
		}
	}
}

// TestLabelsAreBounded ends requests with every status and code that a client or an upstream could
// bring about.
func TestLabelsAreBounded(t *testing.T) {
	metrics := telemetry.New("v1")
	for status := range 1000 {
		for code := range codes.Code(40) {
			metrics.Method(nil).End(telemetry.Outcome{Status: status, Code: code})
		}
	}
	series := strings.Count(scrape(t, metrics), "mesh_gateway_requests_total{code=") - len(contract.Methods())
	const statuses, grpcCodes = 28, 17
	if series != statuses*grpcCodes {
		t.Errorf("%d series, want %d", series, statuses*grpcCodes)
	}
}

func TestErrorsByReason(t *testing.T) {
	metrics := telemetry.New("v1")
	for _, reason := range append(apierror.Reasons(), "", "A_NEW_REASON", "ANOTHER") {
		metrics.Method(nil).End(telemetry.Outcome{Status: 400, Reason: reason})
	}
	text := scrape(t, metrics)
	for _, reason := range apierror.Reasons() {
		wantLines(t, text, fmt.Sprintf(`mesh_gateway_request_errors_total{reason=%q} 1`, reason))
	}
	wantLines(t, text, `mesh_gateway_request_errors_total{reason="other"} 2`)
	if series := strings.Count(text, "\nmesh_gateway_request_errors_total{"); series != len(apierror.Reasons())+1 {
		t.Errorf("%d series", series)
	}
}

// TestConcurrentRequests has all goroutines meet the first request of an outcome.
func TestConcurrentRequests(t *testing.T) {
	const goroutines = 32
	metrics := telemetry.New("v1")
	method := metrics.Method(contract.ByName(getGroup))
	statuses := []int{200, 400, 401, 403, 404, 409, 429, 500, 503, 504}
	var done sync.WaitGroup
	for range goroutines {
		done.Go(func() {
			for _, status := range statuses {
				method.Begin()
				method.End(telemetry.Outcome{Status: status, RequestBytes: 1})
			}
		})
	}
	done.Wait()
	text := scrape(t, metrics)
	for _, status := range statuses {
		wantLines(t, text, fmt.Sprintf(`mesh_gateway_requests_total{code="OK",rpc="%s",status="%d"} %d`, getGroup, status, goroutines))
	}
	wantLines(t, text,
		fmt.Sprintf(`mesh_gateway_request_bytes_total{rpc="%s"} %d`, getGroup, goroutines*len(statuses)),
		fmt.Sprintf(`mesh_gateway_requests_in_flight{rpc="%s"} 0`, getGroup))
}

// TestRequestsDoNotAllocate covers the outcomes that have occurred before.
func TestRequestsDoNotAllocate(t *testing.T) {
	method := telemetry.New("v1").Method(contract.ByName(getGroup))
	outcomes := []telemetry.Outcome{
		{Status: http.StatusOK, Code: codes.OK, Duration: 300 * time.Microsecond, RequestBytes: 1, ResponseBytes: 1},
		{Status: http.StatusTooManyRequests, Code: codes.ResourceExhausted, Reason: apierror.RateLimited, Duration: 40 * time.Millisecond, ResponseBytes: 1},
		{Status: http.StatusOK, Code: codes.Unavailable, Duration: time.Minute},
	}
	// The first run, which is not measured, makes the counters and buckets.
	if allocs := testing.AllocsPerRun(100, func() {
		for _, outcome := range outcomes {
			method.Begin()
			method.End(outcome)
		}
	}); allocs != 0 {
		t.Errorf("%g allocations for %d requests", allocs, len(outcomes))
	}
}
