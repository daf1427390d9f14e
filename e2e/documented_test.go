package e2e

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/e2e/conformance"
	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/sandbox"
)

func TestExamplesAreMadeAsTheFirstSeededAPIUser(t *testing.T) {
	if first := sandbox.Seeded()[0]; first.APIKey != examples.Key || first.Group != examples.Group {
		t.Errorf("%s in %s", first.APIKey, first.Group)
	}
}

// TestEveryOperationAnswersAsDocumented brings about each status that the
// document has for each operation, in each media type. The client holds what it
// sees against the document.
func TestEveryOperationAnswersAsDocumented(t *testing.T) {
	mesh := start(t, "--sandbox", "--sandbox-clock", "manual", "--rate-limit-read", "0", "--rate-limit-write", "0")
	scarce := start(t, "--sandbox", "--rate-limit-read", "1/1m")
	upstream := meshtest.NewUpstream(t)
	ailing := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--rate-limit-read", "0", "--rate-limit-write", "0")

	for _, op := range watch.Operations() {
		t.Run(op.ID, func(t *testing.T) {
			works := worksFor(t, op)
			fails := works // some way or other, so that nothing need go before it
			fails.Before = nil
			for _, documented := range slices.Sorted(maps.Keys(op.Answers)) {
				switch documented {
				case "default":
				case "101":
					openSocket(t, mesh, works)
				case "200", "204":
					for _, media := range append(op.Answers[documented], "*/*") {
						reset(t, mesh)
						visit(t, mesh, with(works, "Accept", media), documented)
					}
				case "400":
					visit(t, mesh, spoilt(fails), documented)
				case "401":
					stranger := with(fails, "X-Api-Key", "")
					if fails.Public() { // a key that is sent must be good
						stranger = with(fails, "X-Api-Key", strings.Repeat("k", len(examples.Key)))
					}
					visit(t, mesh, stranger, documented)
				case "403":
					trespass := with(fails, "X-Api-Key", credential(t, "Roleless").APIKey)
					if strings.HasPrefix(op.Template, "/sandbox:") {
						trespass = with(fails, "Sec-Fetch-Site", "cross-site")
					}
					visit(t, mesh, trespass, documented)
				case "404", "409":
					refusal := refusalFor(op, fails, documented)
					reset(t, mesh)
					visit(t, mesh, refusal, documented)
				case "406":
					visit(t, mesh, with(fails, "Accept", "text/csv"), documented)
				case "413":
					large := fails
					large.Body = `"` + strings.Repeat("x", 1<<20) + `"`
					visit(t, mesh, large, documented)
				case "415":
					form := with(fails, "Content-Type", "application/x-www-form-urlencoded")
					form.Body = "a=b"
					visit(t, mesh, form, documented)
				case "429", "500", "503", "504":
					if op.Template == "/stream_tickets" { // Mesh has no part in it
						visit(t, scarce, fails, "200")
						visit(t, scarce, fails, documented)
						continue
					}
					upstream.Fail(status.New(map[string]codes.Code{
						"429": codes.ResourceExhausted, "500": codes.Internal, "503": codes.Unavailable, "504": codes.DeadlineExceeded,
					}[documented], "the upstream is ailing"))
					visit(t, ailing, fails, documented)
				default:
					t.Errorf("how to bring about %s is not known here", documented)
				}
			}
		})
	}
	if unseen := watch.Unseen(); len(unseen) > 0 {
		t.Errorf("never seen: %q", unseen)
	}
}

// worksFor is a call of the operation that works.
func worksFor(t *testing.T, op conformance.Operation) examples.Call {
	t.Helper()
	switch op.Template {
	case "/stream_tickets":
		return examples.Call{Method: "POST", Path: op.Template, Body: `{"path": "/v1/limit_orders/00000000000000000000000001:monitor"}`}
	case "/sandbox:reset":
		return examples.Call{Method: "POST", Path: op.Template}
	case "/sandbox:advance":
		return examples.Call{Method: "POST", Path: op.Template + "?by=1s"}
	}
	for _, stop := range examples.Successes() {
		if isOf(stop, op) {
			return stop
		}
	}
	t.Fatal("there is no example call of it")
	return examples.Call{}
}

func isOf(stop examples.Call, op conformance.Operation) bool {
	path, _, _ := strings.Cut(stop.Path, "?")
	_, ok := examples.Match(op.Template, path)
	return ok && stop.Method == op.Verb
}

// refusalFor is a call that is refused with the status: one of the examples, or one
// of a resource that is not there.
func refusalFor(op conformance.Operation, works examples.Call, documented string) examples.Call {
	for _, stop := range examples.Calls() {
		if isOf(stop, op) && !stop.Anywhere && documented == statusOf(stop) {
			return stop
		}
	}
	path, _, _ := strings.Cut(works.Path, "?")
	values, _ := examples.Match(op.Template, path)
	for name, value := range values {
		absent := strings.Repeat("Z", len(value))
		if name == "account_number" {
			absent = "1999999"
		}
		works.Path = strings.Replace(works.Path, "/"+value, "/"+absent, 1)
		works.Before = nil
	}
	return works
}

func statusOf(stop examples.Call) string { return strconv.Itoa(stop.Status) }

func with(stop examples.Call, name, value string) examples.Call {
	stop.Header = maps.Clone(stop.Header)
	if stop.Header == nil {
		stop.Header = make(map[string]string)
	}
	stop.Header[name] = value
	if name == "X-Api-Key" && value != "" && stop.Header["X-Group"] == "" {
		stop.Header["X-Group"] = examples.Group
	}
	return stop
}

// spoilt is the call with a parameter or a body that is not understood.
func spoilt(stop examples.Call) examples.Call {
	switch {
	case strings.HasPrefix(stop.Path, "/v1/") && strings.Contains(stop.Path, "?"):
		stop.Path += "&nonsense=1"
	case strings.HasPrefix(stop.Path, "/v1/"):
		stop.Path += "?nonsense=1"
	case stop.Body != "":
		stop.Body = `{"path": "/v1/groups"}`
	default:
		stop.Path = strings.Replace(stop.Path, "1s", "soon", 1)
	}
	return stop
}

func reset(t *testing.T, mesh *program) {
	t.Helper()
	if a := mesh.call(t, "POST", "/sandbox:reset", nil, ""); a.status != http.StatusNoContent {
		t.Fatalf("reset: %d %s", a.status, a.body)
	}
}

// visit makes the call, after those before it, and wants the status.
func visit(t *testing.T, mesh *program, stop examples.Call, want string) {
	t.Helper()
	recording, got, err := stop.Record(t.Context(), client, mesh.base)
	stop.Status = got
	if err != nil || statusOf(stop) != want {
		t.Errorf("%s %s: %d %.300s (%v), want %s", stop.Method, stop.Path, got, recording.Answer, err, want)
	}
	if got >= 400 && !strings.Contains(recording.Answer, "google.rpc.RequestInfo") {
		t.Errorf("%s %s: %d %.300s", stop.Method, stop.Path, got, recording.Answer)
	}
}

func openSocket(t *testing.T, mesh *program, stop examples.Call) {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), mesh.base+stop.Path, &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: http.Header{"X-Api-Key": {examples.Key}, "X-Group": {examples.Group}},
	})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.CloseNow() }()
	if _, _, err := conn.Read(t.Context()); err != nil {
		t.Error(err)
	}
}
