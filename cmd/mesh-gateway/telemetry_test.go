package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

const (
	liveKey        = "live-key-of-43-characters-00000000000000000"
	liveGroup      = "groups/01ARZ3NDEKTSV4RRFFQ69G5FAV"
	idempotencyKey = "an-idempotency-key-of-a-client"
	traceID        = "0af7651916cd43dd8448eb211c80319c"
	clientSpan     = "b7ad6b7169203331"
	traceparent    = "00-" + traceID + "-" + clientSpan + "-01"

	getGroupRPC    = "/meshtrade.iam.group.v1.GroupService/GetGroup"
	createGroupRPC = "/meshtrade.iam.group.v1.GroupService/CreateGroup"
	newGroup       = `{"owner": "` + liveGroup + `", "displayName": "New"}`
)

func sha(text string) string {
	hash := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(hash[:])
}

// request is a request to the gateway as a live caller. headers are pairs that replace those of it.
func (p *program) request(t *testing.T, method, path, body string, headers ...string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, p.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"X-Api-Key": {liveKey}, "X-Group": {liveGroup}}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			request.Header.Del(headers[i])
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// answer makes the upstream answer with empty messages, or with a status.
func answer(mesh *meshtest.Upstream, st *status.Status) {
	mesh.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
		if st != nil {
			return nil, st.Err()
		}
		return []proto.Message{dynamicpb.NewMessage(method.Output())}, nil
	})
}

// eventually calls f until it reports true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// TestMetricsCountWhatWasSent compares what was sent with what is counted.
func TestMetricsCountWhatWasSent(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	p := start(t, "--upstream", mesh.Target, "--upstream-plaintext", "--admin-listen", "127.0.0.1:0", "--rate-limit-write", "6/1h")
	send := func(method, path, body string, want int, headers ...string) {
		t.Helper()
		if status, answer := p.request(t, method, path, body, headers...); status != want {
			t.Fatalf("%s %s: %d %s, want %d", method, path, status, answer, want)
		}
	}
	for range 3 {
		send("GET", "/v1/"+liveGroup, "", 200)
	}
	answer(mesh, status.New(codes.NotFound, "no"))
	for range 2 {
		send("GET", "/v1/"+liveGroup, "", 404)
	}
	answer(mesh, nil)
	send("GET", "/v1/"+liveGroup, "", 401, "X-Api-Key", "")
	send("GET", "/v1/nothing", "", 404)
	send("POST", "/v1/groups", newGroup, 200)
	send("POST", "/v1/groups", newGroup, 200, "Idempotency-Key", idempotencyKey)
	send("POST", "/v1/groups", newGroup, 200, "Idempotency-Key", idempotencyKey)
	send("POST", "/v1/groups", `{"displayName": 1}`, 400)
	answer(mesh, status.New(codes.Internal, "a lost row"))
	send("POST", "/v1/groups", newGroup, 500)
	answer(mesh, nil)
	send("POST", "/v1/groups", newGroup, 200)
	send("POST", "/v1/groups", newGroup, 429)

	get := func(status, code string, n int) string {
		return fmt.Sprintf(`requests_total{code="%s",rpc="%s",status="%s"} %d`, code, getGroupRPC, status, n)
	}
	create := func(status, code string, n int) string {
		return fmt.Sprintf(`requests_total{code="%s",rpc="%s",status="%s"} %d`, code, createGroupRPC, status, n)
	}
	want := []string{
		get("200", "OK", 3), get("404", "NOT_FOUND", 2), get("401", "UNAUTHENTICATED", 1),
		`requests_total{code="NOT_FOUND",rpc="other",status="404"} 1`,
		create("200", "OK", 4), create("400", "INVALID_ARGUMENT", 1), create("500", "INTERNAL", 1), create("429", "RESOURCE_EXHAUSTED", 1),
		`request_duration_seconds_count{rpc="` + getGroupRPC + `"} 6`,
		`request_errors_total{reason="CREDENTIALS_MISSING"} 1`,
		`request_errors_total{reason="UNKNOWN_PATH"} 1`,
		`request_errors_total{reason="INVALID_REQUEST"} 1`,
		`request_errors_total{reason="OUTCOME_UNKNOWN"} 1`,
		`request_errors_total{reason="RATE_LIMITED"} 1`,
		`rate_limit_refused_total{limit="write"} 1`,
		`rate_limit_refused_total{limit="read"} 0`,
		`upstream_calls_total{code="OK",rpc="` + getGroupRPC + `"} 3`,
		`upstream_calls_total{code="NOT_FOUND",rpc="` + getGroupRPC + `"} 2`,
		`upstream_calls_total{code="OK",rpc="` + createGroupRPC + `"} 3`,
		`upstream_calls_total{code="INTERNAL",rpc="` + createGroupRPC + `"} 1`,
		`upstream_call_duration_seconds_count{rpc="` + createGroupRPC + `"} 4`,
		`writes_total{keyed="false",outcome="done"} 2`,
		`writes_total{keyed="true",outcome="done"} 1`,
		`writes_total{keyed="true",outcome="replayed"} 1`,
		`writes_total{keyed="false",outcome="unknown"} 1`,
		`writes_total{keyed="false",outcome="not_sent"} 2`,
		`store_operations_total{operation="claim",result="ok"} 1`,
		`store_operations_total{operation="claim",result="found"} 1`,
		`store_operations_total{operation="finish",result="ok"} 1`,
		`store_operation_duration_seconds_count{operation="claim"} 2`,
		`log_write_failures_total 0`,
	}
	// A request is counted after its answer.
	metrics := ""
	lacks := func() []string {
		metrics = p.admin(t, "/metrics")
		return slices.DeleteFunc(slices.Clone(want), func(line string) bool { return strings.Contains(metrics, "\nmesh_gateway_"+line+"\n") })
	}
	missing := lacks()
	for deadline := time.Now().Add(patience / 3); len(missing) > 0 && time.Now().Before(deadline); missing = lacks() {
		time.Sleep(time.Millisecond)
	}
	for _, line := range missing {
		name, _, _ := strings.Cut(line, "{")
		t.Errorf("no line %s, but\n%s", line, linesWith(metrics, "mesh_gateway_"+name))
	}
}

// linesWith returns the lines that begin with the prefix and whose value is not 0.
func linesWith(text, prefix string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) && !strings.HasSuffix(line, " 0\n") {
			found.WriteString(line)
		}
	}
	return found.String()
}

var (
	seriesLine = regexp.MustCompile(`(?m)^(mesh_gateway_\w+?)(?:\{(.*)\})? \S+$`)
	labelName  = regexp.MustCompile(`(\w+)="`)
	typeOf     = regexp.MustCompile(`(?m)^# TYPE (mesh_gateway_\w+) (\w+)$`)
	tableRow   = regexp.MustCompile("(?m)^\\| `(mesh_gateway_\\w+)` \\| (\\w+) \\| ([^|]*) \\|")
	usedName   = regexp.MustCompile(`\bmesh_gateway_\w+`)
)

// registered returns the metrics of a gateway that has all of its parts: "type, labels" by name.
func registered(t *testing.T) map[string]string {
	t.Helper()
	collector := newTraceCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
	p := start(t, "--sandbox", "--admin-listen", "127.0.0.1:0", "--audit-log", filepath.Join(t.TempDir(), "audit.log"), "--redis", "redis://127.0.0.1:1", "--admission", "adaptive", "--tls-self-signed")
	text := p.admin(t, "/metrics")
	all := make(map[string]string)
	for _, match := range typeOf.FindAllStringSubmatch(text, -1) {
		labels := make(map[string]bool)
		for _, series := range seriesLine.FindAllStringSubmatch(text, -1) {
			if name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(series[1], "_bucket"), "_sum"), "_count"); name == match[1] || series[1] == match[1] {
				for _, label := range labelName.FindAllStringSubmatch(series[2], -1) {
					labels[label[1]] = label[1] != "le"
				}
			}
		}
		maps.DeleteFunc(labels, func(_ string, counts bool) bool { return !counts })
		all[match[1]] = match[2] + ", " + strings.Join(slices.Sorted(maps.Keys(labels)), " ")
	}
	if len(all) < 20 {
		t.Fatalf("%d metrics in\n%s", len(all), text)
	}
	return all
}

// TestMetricsAreDocumented wants the table of docs/operations.md to be what a gateway exports.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for _, row := range tableRow.FindAllStringSubmatch(string(page), -1) {
		labels := strings.Fields(strings.NewReplacer("`", "", ",", " ").Replace(row[3]))
		slices.Sort(labels)
		documented[row[1]] = row[2] + ", " + strings.Join(labels, " ")
	}
	exported := registered(t)
	for name, want := range exported {
		if documented[name] != want {
			t.Errorf("%s is a %q, and documented as %q", name, want, documented[name])
		}
	}
	for name := range documented {
		if exported[name] == "" {
			t.Errorf("%s is documented and does not exist", name)
		}
	}
}

// TestDeployedFilesUseMetricsThatExist covers the dashboard and the rules.
func TestDeployedFilesUseMetricsThatExist(t *testing.T) {
	exported := registered(t)
	for _, pattern := range []string{"../../deploy/grafana/*.json", "../../deploy/prometheus/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, ".json") && !json.Valid(text) {
				t.Errorf("%s is not JSON", file)
			}
			used := usedName.FindAllString(string(text), -1)
			if len(used) < 10 {
				t.Errorf("%s uses %q", file, used)
			}
			for _, name := range used {
				base := name
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					base = strings.TrimSuffix(base, suffix)
				}
				if exported[name] == "" && !strings.HasPrefix(exported[base], "histogram") {
					t.Errorf("%s uses %s, which does not exist", file, name)
				}
			}
		}
	}
}

// traceCollector is a collector of traces over OTLP/HTTP.
type traceCollector struct {
	url string

	mu    sync.Mutex
	spans []*tracepb.Span
	raw   []byte
}

func newTraceCollector(t *testing.T) *traceCollector {
	t.Helper()
	c := new(traceCollector)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var export coltracepb.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &export) != nil {
			t.Errorf("%s: %v", r.URL, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw = append(c.raw, body...)
		for _, resource := range export.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// span returns the span of a kind, once it is there.
func (c *traceCollector) span(t *testing.T, kind tracepb.Span_SpanKind) *tracepb.Span {
	t.Helper()
	var found *tracepb.Span
	eventually(t, "no span of "+kind.String(), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, span := range c.spans {
			if span.GetKind() == kind {
				found = span
			}
		}
		return found != nil
	})
	return found
}

func TestTraces(t *testing.T) {
	for _, test := range []struct{ name, verb, path, body, server, client string }{
		{"a read", "GET", "/v1/" + liveGroup + "?fields=name", "", "GET /v1/{name=groups/*}", getGroupRPC},
		{"a write with a key", "POST", "/v1/groups", newGroup, "POST /v1/groups", createGroupRPC},
		{"a stream", "GET", "/v1/limit_orders/01ARZ3NDEKTSV4RRFFQ69G5FAV:monitor", "", "GET /v1/{name=limit_orders/*}:monitor", "/meshtrade.trading.limit_order.v1.LimitOrderService/MonitorLimitOrder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mesh, collector := meshtest.NewUpstream(t), newTraceCollector(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
			t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
			p := start(t, "--upstream", mesh.Target, "--upstream-plaintext", "--admin-listen", "127.0.0.1:0")
			if status, answer := p.request(t, test.verb, test.path, test.body, "Traceparent", traceparent, "Tracestate", "vendor=1", "Idempotency-Key", idempotencyKey); status != 200 {
				t.Fatalf("%d %s", status, answer)
			}
			server, client := collector.span(t, tracepb.Span_SPAN_KIND_SERVER), collector.span(t, tracepb.Span_SPAN_KIND_CLIENT)
			hex := func(id []byte) string { return fmt.Sprintf("%x", id) }
			if server.GetName() != test.server || hex(server.GetTraceId()) != traceID || hex(server.GetParentSpanId()) != clientSpan {
				t.Errorf("the span of the request is %v", server)
			}
			if client.GetName() != test.client[1:] || hex(client.GetTraceId()) != traceID || hex(client.GetParentSpanId()) != hex(server.GetSpanId()) {
				t.Errorf("the span of the call is %v", client)
			}
			calls := mesh.Calls()
			if len(calls) != 1 {
				t.Fatalf("%d calls", len(calls))
			}
			want := "00-" + traceID + "-" + hex(client.GetSpanId()) + "-01"
			if got := calls[0].Metadata; !slices.Equal(got.Get("traceparent"), []string{want}) || !slices.Equal(got.Get("tracestate"), []string{"vendor=1"}) {
				t.Errorf("the upstream gets %v, want the traceparent %s", got, want)
			}
			if test.verb == "GET" && !strings.Contains(test.path, ":") {
				metrics := p.openMetrics(t)
				if !strings.Contains(metrics, `# {trace_id="`+traceID+`"}`) {
					t.Errorf("no exemplar of the trace in\n%s", linesWith(metrics, "mesh_gateway_request_duration_seconds_bucket{rpc=\""+getGroupRPC))
				}
			}
			collector.mu.Lock()
			defer collector.mu.Unlock()
			for _, secret := range []string{liveKey, idempotencyKey, "fields=", "01ARZ3NDEKTSV4RRFFQ69G5FAV"} {
				if strings.Contains(string(collector.raw), secret) {
					t.Errorf("%q is in the traces", secret)
				}
			}
		})
	}
}

// openMetrics returns the metrics in the format that has exemplars.
func (p *program) openMetrics(t *testing.T) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Fields(p.stdout.Wait(t, "Admin"))[1]+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTracesThatAreOff(t *testing.T) {
	for _, test := range []struct {
		name        string
		environment map[string]string
		sampled     bool // whether the upstream receives the span of the gateway, marked as not sampled
	}{
		{"no endpoint", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, false},
		{"disabled", map[string]string{"OTEL_SDK_DISABLED": "true"}, false},
		{"no exporter", map[string]string{"OTEL_TRACES_EXPORTER": "none"}, false},
		{"not sampled", map[string]string{"OTEL_TRACES_SAMPLER": "always_off"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			mesh, collector := meshtest.NewUpstream(t), newTraceCollector(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
			for name, value := range test.environment {
				t.Setenv(name, value)
			}
			p := start(t, "--upstream", mesh.Target, "--upstream-plaintext")
			p.request(t, "GET", "/v1/"+liveGroup, "", "Traceparent", traceparent)
			got := strings.Join(mesh.Calls()[0].Metadata.Get("traceparent"), ",")
			if test.sampled != (got != traceparent) || !strings.HasPrefix(got, "00-"+traceID) || test.sampled && !strings.HasSuffix(got, "-00") {
				t.Errorf("the upstream gets %s", got)
			}
			p.stderr.Wait(t, `"trace_id":"`+traceID+`"`)
			p.stop(nil)
			p.end()
			if len(collector.spans) > 0 {
				t.Errorf("%d spans", len(collector.spans))
			}
		})
	}
	t.Run("an exporter that there is not", func(t *testing.T) {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
		t.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
		if got := runToEnd(t, "serve", "--sandbox"); got.status != 1 || !strings.Contains(got.stderr, "OTEL_TRACES_EXPORTER") {
			t.Errorf("%+v", got)
		}
	})
}

// TestSpansAreSentAtTheEnd ends a gateway whose batches would wait for an hour.
func TestSpansAreSentAtTheEnd(t *testing.T) {
	mesh, collector := meshtest.NewUpstream(t), newTraceCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
	p := start(t, "--upstream", mesh.Target, "--upstream-plaintext")
	p.request(t, "GET", "/v1/"+liveGroup, "")
	p.stop(nil)
	p.end()
	if len(collector.spans) != 2 {
		t.Errorf("%d spans, want 2", len(collector.spans))
	}
}

// TestACollectorThatFailsIsReportedOnce ends many batches in failure.
func TestACollectorThatFailsIsReportedOnce(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer refusing.Close()
	mesh := meshtest.NewUpstream(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", refusing.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	p := start(t, "--upstream", mesh.Target, "--upstream-plaintext", "--admin-listen", "127.0.0.1:0")
	for n := 1; n <= 3; n++ {
		p.request(t, "GET", "/v1/"+liveGroup, "")
		eventually(t, "the spans did not fail", func() bool {
			return strings.Contains(p.admin(t, "/metrics"), fmt.Sprintf("mesh_gateway_trace_spans_total{result=\"failed\"} %d\n", 2*n))
		})
	}
	p.stop(nil)
	p.end()
	if n := strings.Count(p.stderr.String(), "traces cannot be sent"); n != 1 {
		t.Errorf("%d records:\n%s", n, p.stderr)
	}
}

// lines returns the lines of the audit log.
func auditLines(t *testing.T, path string) []map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for line := range strings.Lines(string(text)) {
		var fields map[string]string
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, fields)
	}
	return all
}

func TestAuditLog(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	p := start(t, "--upstream", mesh.Target, "--upstream-plaintext", "--audit-log", path, "--rate-limit-write", "8/1h")
	user := "iam/api_users/01ARZ3NDEKTSV4RRFFQ69G5FAV"
	activate := "/meshtrade.iam.api_user.v1.APIUserService/ActivateAPIUser"
	keyed := []string{"Idempotency-Key", idempotencyKey}
	number := 0
	for _, test := range []struct {
		name, path, body string
		fail             *status.Status
		headers          []string
		status           int
		want             map[string]string
	}{
		{"done", "/v1/" + user + ":activate", "", nil, nil, 200,
			map[string]string{"rpc": activate, "resource": user, "outcome": "done", "code": "OK", "reason": ""}},
		{"refused", "/v1/" + user + ":activate", "", status.New(codes.FailedPrecondition, "no"), nil, 400,
			map[string]string{"rpc": activate, "resource": user, "outcome": "refused", "code": "FAILED_PRECONDITION", "reason": ""}},
		{"unknown", "/v1/" + user + ":activate", "", status.New(codes.Internal, "lost"), nil, 500,
			map[string]string{"rpc": activate, "resource": user, "outcome": "unknown", "code": "INTERNAL", "reason": "OUTCOME_UNKNOWN"}},
		{"done with a key", "/v1/groups", newGroup, nil, keyed, 200,
			map[string]string{"rpc": createGroupRPC, "outcome": "done", "code": "OK", "reason": "", "idempotency_key_hash": sha(idempotencyKey)}},
		{"replayed", "/v1/groups", newGroup, nil, keyed, 200,
			map[string]string{"rpc": createGroupRPC, "outcome": "replayed", "code": "OK", "reason": "", "idempotency_key_hash": sha(idempotencyKey)}},
		{"another request with the key", "/v1/groups", strings.Replace(newGroup, "New", "Other", 1), nil, keyed, 422,
			map[string]string{"rpc": createGroupRPC, "outcome": "not_sent", "reason": "IDEMPOTENCY_KEY_REUSED", "idempotency_key_hash": sha(idempotencyKey)}},
		{"breaks a rule", "/v1/groups", `{"owner": "me", "displayName": "New"}`, nil, nil, 400,
			map[string]string{"rpc": createGroupRPC, "resource": "", "outcome": "not_sent", "code": "INVALID_ARGUMENT", "reason": "INVALID_REQUEST"}},
		{"does not fit, with a resource in the path", "/v1/" + user + ":activate", `{"x": 1}`, nil, nil, 400,
			map[string]string{"rpc": activate, "resource": user, "outcome": "not_sent", "code": "INVALID_ARGUMENT", "reason": "INVALID_REQUEST"}},
		{"over the rate limit", "/v1/groups", newGroup, nil, nil, 429,
			map[string]string{"rpc": createGroupRPC, "outcome": "not_sent", "code": "RESOURCE_EXHAUSTED", "reason": "RATE_LIMITED"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			number++
			answer(mesh, test.fail)
			id := fmt.Sprint("request-", number)
			code, answer := p.request(t, "POST", test.path, test.body, append(test.headers, "X-Request-Id", id, "Traceparent", traceparent)...)
			if code != test.status {
				t.Fatalf("%d %s, want %d", code, answer, test.status)
			}
			for name, want := range map[string]string{
				"request_id": id, "trace_id": traceID, "caller": sha(liveKey), "group": liveGroup, "client_ip": "127.0.0.1",
			} {
				test.want[name] = want
			}
			if test.headers == nil {
				test.want["idempotency_key_hash"] = ""
			}
			// What does not get to the call is recorded after the answer.
			var lines []map[string]string
			eventually(t, "no line", func() bool { lines = auditLines(t, path); return len(lines) == number })
			line := lines[number-1]
			for name, want := range test.want {
				if got, ok := line[name]; got != want || !ok {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if at, err := time.Parse(time.RFC3339, line["time"]); err != nil || time.Since(at) > time.Hour {
				t.Errorf("time is %q", line["time"])
			}
		})
	}
	t.Run("reads and callers without credentials have no line", func(t *testing.T) {
		answer(mesh, nil)
		p.request(t, "GET", "/v1/"+liveGroup, "")
		p.request(t, "POST", "/v1/groups", newGroup, "X-Api-Key", "")
		p.stop(nil)
		p.end()
		if lines := auditLines(t, path); len(lines) != number {
			t.Errorf("%d lines, want %d", len(lines), number)
		}
	})
	t.Run("keys are nowhere", func(t *testing.T) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{liveKey, idempotencyKey} {
			if strings.Contains(string(text), secret) || strings.Contains(p.stderr.String(), secret) {
				t.Errorf("%s is in the audit log or in the log", secret)
			}
		}
	})
}

func TestAuditLogIsOpenedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	mesh := meshtest.NewUpstream(t)
	p := start(t, "--upstream", mesh.Target, "--upstream-plaintext", "--audit-log", path)
	p.request(t, "POST", "/v1/groups", newGroup)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file was not opened again", func() bool { _, err := os.Stat(path); return err == nil })
	p.request(t, "POST", "/v1/groups", newGroup)
	if before, after := len(auditLines(t, path+".1")), len(auditLines(t, path)); before != 1 || after != 1 {
		t.Errorf("%d lines before and %d after", before, after)
	}
}

// TestAuditFailure writes the audit log to a device that is full.
func TestAuditFailure(t *testing.T) {
	const full = "/dev/full" // full(4)
	if _, err := os.Stat(full); err != nil {
		t.Fatal("this test needs Linux: ", err)
	}
	for _, test := range []struct {
		failure       string
		second, ready int
		outcome       string
	}{
		{"refuse", http.StatusServiceUnavailable, http.StatusOK, `mesh_gateway_writes_total{keyed="false",outcome="not_sent"} 1`},
		{"continue", http.StatusOK, http.StatusServiceUnavailable, `mesh_gateway_writes_total{keyed="false",outcome="done"} 2`},
	} {
		t.Run(test.failure, func(t *testing.T) {
			mesh := meshtest.NewUpstream(t)
			p := runUntilStopped(t, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--drain-delay", "0s",
				"--upstream", mesh.Target, "--upstream-plaintext", "--audit-log", full, "--audit-failure", test.failure)
			gateway := &program{base: strings.TrimSuffix(word(t, p.stdout, "Mesh API", 2), "/v1"), stdout: p.stdout, stderr: p.stderr}
			if status, answer := gateway.request(t, "POST", "/v1/groups", newGroup); status != 200 {
				t.Fatalf("the first write: %d %s", status, answer)
			}
			status, answer := gateway.request(t, "POST", "/v1/groups", newGroup)
			if status != test.second || (status == http.StatusServiceUnavailable) != strings.Contains(answer, "AUDIT_UNAVAILABLE") {
				t.Errorf("the second write: %d %s, want %d", status, answer, test.second)
			}
			if status, answer := gateway.request(t, "GET", "/v1/"+liveGroup, ""); status != 200 {
				t.Errorf("a read: %d %s", status, answer)
			}
			if status, answer := gateway.request(t, "GET", "/readyz", ""); status != test.ready {
				t.Errorf("/readyz: %d %s, want %d", status, answer, test.ready)
			}
			metrics := gateway.admin(t, "/metrics")
			for _, want := range []string{test.outcome, "mesh_gateway_audit_lines_waiting 2"} {
				if !strings.Contains(metrics, "\n"+want+"\n") {
					t.Errorf("no line %s in\n%s", want, linesWith(metrics, "mesh_gateway_"))
				}
			}
			p.stop(nil)
			if status := p.status(); status != 1 {
				t.Errorf("exit status %d, want 1, since lines are missing", status)
			}
			if n := strings.Count(p.stderr.String(), "a line could not be written to the audit log"); n != 2 {
				t.Errorf("%d lines are in the log, want 2:\n%s", n, p.stderr)
			}
		})
	}
}

func TestLogRecord(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	p := start(t, "--upstream", mesh.Target, "--upstream-plaintext")
	for _, test := range []struct {
		name, path string
		fail       *status.Status
		headers    []string
		want       map[string]any
	}{
		{"success", "/v1/" + liveGroup, nil, nil, map[string]any{
			"level": "INFO", "rpc": getGroupRPC, "caller": sha(liveKey), "group": liveGroup, "sent": true, "trace_id": traceID, "code": nil}},
		{"refused by Mesh", "/v1/" + liveGroup, status.New(codes.NotFound, "no"), nil, map[string]any{
			"level": "INFO", "caller": sha(liveKey), "sent": true, "code": "NOT_FOUND", "reason": nil}},
		{"refused by the gateway", "/v1/" + liveGroup + "?x=1", nil, nil, map[string]any{
			"level": "INFO", "caller": sha(liveKey), "sent": false, "upstream_ms": nil, "reason": "INVALID_REQUEST"}},
		{"no credentials", "/v1/" + liveGroup, nil, []string{"X-Api-Key", ""}, map[string]any{
			"caller": nil, "group": nil, "sent": false, "reason": "CREDENTIALS_MISSING"}},
		{"not an RPC", "/healthz", nil, nil, map[string]any{"caller": nil, "sent": nil, "rpc": nil}},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer(mesh, test.fail)
			id := strings.ReplaceAll(test.name, " ", "-")
			p.request(t, "GET", test.path, "", append(test.headers, "X-Request-Id", id, "Traceparent", traceparent)...)
			var record map[string]any
			if err := json.Unmarshal([]byte(p.stderr.Wait(t, `"request_id":"`+id+`"`)), &record); err != nil {
				t.Fatal(err)
			}
			for name, want := range test.want {
				if record[name] != want {
					t.Errorf("%s is %v, want %v", name, record[name], want)
				}
			}
			if took, ok := record["upstream_ms"].(float64); record["sent"] == true && (!ok || took <= 0) {
				t.Errorf("upstream_ms is %v", record["upstream_ms"])
			}
		})
	}
	if strings.Contains(p.stderr.String(), liveKey) {
		t.Error("a key is in the log")
	}
}

func TestLogFlags(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	serve := func(t *testing.T, flags ...string) *program {
		t.Helper()
		p := start(t, append([]string{"--upstream", mesh.Target, "--upstream-plaintext"}, flags...)...)
		p.request(t, "GET", "/v1/"+liveGroup, "", "X-Request-Id", "a-success")
		p.request(t, "GET", "/v1/nothing", "", "X-Request-Id", "a-failure")
		p.stop(nil)
		p.end()
		return p
	}
	for _, test := range []struct {
		name             string
		flags            []string
		success, failure bool
	}{
		{"by default", nil, true, true},
		{"no successes", []string{"--log-sample-success", "0"}, false, true},
		{"level", []string{"--log-level", "error"}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := serve(t, test.flags...).stderr.String()
			if strings.Contains(text, "a-success") != test.success || strings.Contains(text, "a-failure") != test.failure {
				t.Errorf("%s", text)
			}
		})
	}
	t.Run("text", func(t *testing.T) {
		if text := serve(t, "--log-format", "text").stderr.String(); !strings.Contains(text, "INF request method=GET") || strings.Contains(text, "\x1b") || strings.Contains(text, `{"`) {
			t.Errorf("%s", text)
		}
	})
	for _, value := range []string{"-0.1", "1.1", "NaN"} {
		t.Run("a sample of "+value, func(t *testing.T) {
			if got := runToEnd(t, "serve", "--sandbox", "--log-sample-success="+value); got.status != 2 || !strings.Contains(got.stderr, "--log-sample-success") {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestReachabilityIsLogged(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	p := start(t, "--upstream", mesh.Target, "--upstream-plaintext")
	p.stderr.Wait(t, `"the Mesh API can be reached","upstream":"`+mesh.Target+`"`)

	nobody := refusedAddress(t)
	p = start(t, "--upstream", nobody, "--upstream-plaintext")
	p.stderr.Wait(t, `"the Mesh API cannot be reached; calls fail until it can","upstream":"`+nobody+`"`)
}

func TestFlightRecorder(t *testing.T) {
	p := start(t, "--sandbox", "--admin-listen", "127.0.0.1:0", "--flight-recorder")
	p.send(t, "GET", "/v1/groups", "", false).Body.Close()
	if trace := p.admin(t, "/debug/flight"); !strings.HasPrefix(trace, "go 1.") || len(trace) < 1000 {
		t.Errorf("%d bytes, which begin with %q", len(trace), trace[:min(16, len(trace))])
	}
}
