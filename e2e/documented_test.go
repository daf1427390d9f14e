package e2e

import (
	"crypto/rand"
	"iter"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

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

// TestEveryOperationAnswersAsDocumented provokes each documented status of each operation, in each
// media type. The client compares all calls with the document.
func TestEveryOperationAnswersAsDocumented(t *testing.T) {
	mesh := start(t, "--sandbox", "--sandbox-clock", "manual", "--rate-limit-read", "0", "--rate-limit-write", "0")
	scarce := start(t, "--sandbox", "--rate-limit-read", "1/1m")
	closed := start(t, "--sandbox", "--allow-cidr", "192.0.2.0/24") // to everybody here
	upstream := meshtest.NewUpstream(t)
	failing := start(t, "--upstream", upstream.Target, "--upstream-plaintext", "--rate-limit-read", "0", "--rate-limit-write", "0")

	for _, op := range watch.Operations() {
		t.Run(op.ID, func(t *testing.T) {
			works := worksFor(t, op)
			fails := works // it fails in any case, so it needs no calls before it
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
					if fails.Public() { // a key that is sent must be valid
						stranger = with(fails, "X-Api-Key", strings.Repeat("k", len(examples.Key)))
					}
					visit(t, mesh, stranger, documented)
				case "403":
					if fails.Public() || op.Template == "/stream_tickets" { // no role is required
						visit(t, closed, fails, documented)
						continue
					}
					trespass := with(fails, "X-Api-Key", credential(t, "Roleless").APIKey)
					if strings.HasPrefix(op.Template, "/sandbox:") {
						trespass = with(fails, "Sec-Fetch-Site", "cross-site")
					}
					visit(t, mesh, trespass, documented)
				case "422":
					reuseKey(t, mesh, works)
				case "409":
					if refusal := refusalFor(op, fails, documented); refusal.Status == http.StatusConflict {
						reset(t, mesh)
						visit(t, mesh, refusal, documented)
						continue
					}
					upstream.Fail(status.New(codes.Unavailable, "the upstream failed"))
					keyed := keyed(fails)
					visit(t, failing, keyed, "503")
					visit(t, failing, keyed, documented)
				case "404":
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
					if op.Template == "/stream_tickets" && documented == "429" { // not one of Mesh
						visit(t, scarce, fails, "200")
						visit(t, scarce, fails, documented)
						continue
					}
					upstream.Fail(status.New(map[string]codes.Code{
						"429": codes.ResourceExhausted, "500": codes.Internal, "503": codes.Unavailable, "504": codes.DeadlineExceeded,
					}[documented], "the upstream failed"))
					visit(t, failing, fails, documented)
				case "502":
					upstream.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) { return nil, nil })
					visit(t, failing, fails, documented)
				default:
					t.Errorf("this test cannot provoke status %s", documented)
				}
			}
		})
	}
	if unseen := watch.Unseen(); len(unseen) > 0 {
		t.Errorf("statuses that were never seen: %q", unseen)
	}
}

// worksFor returns a call of the operation that succeeds.
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
	for _, call := range examples.Successes() {
		if isOf(call, op) {
			return call
		}
	}
	t.Fatal("there is no example call of this operation")
	return examples.Call{}
}

func isOf(call examples.Call, op conformance.Operation) bool {
	path, _, _ := strings.Cut(call.Path, "?")
	_, ok := examples.Match(op.Template, path)
	return ok && call.Method == op.Verb
}

// refusalFor returns a call that fails with the status: one of the examples, or a call of a resource
// that does not exist.
func refusalFor(op conformance.Operation, works examples.Call, documented string) examples.Call {
	for _, call := range examples.Calls() {
		if isOf(call, op) && !call.Anywhere && documented == statusOf(call) {
			return call
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

func statusOf(call examples.Call) string { return strconv.Itoa(call.Status) }

func with(call examples.Call, name, value string) examples.Call {
	call.Header = maps.Clone(call.Header)
	if call.Header == nil {
		call.Header = make(map[string]string)
	}
	call.Header[name] = value
	if name == "X-Api-Key" && value != "" && call.Header["X-Group"] == "" {
		call.Header["X-Group"] = examples.Group
	}
	return call
}

// spoilt returns the call with an unknown parameter or an invalid body.
func spoilt(call examples.Call) examples.Call {
	switch {
	case strings.HasPrefix(call.Path, "/v1/") && strings.Contains(call.Path, "?"):
		call.Path += "&nonsense=1"
	case strings.HasPrefix(call.Path, "/v1/"):
		call.Path += "?nonsense=1"
	case call.Body != "":
		call.Body = `{"path": "/v1/groups"}`
	default:
		call.Path = strings.Replace(call.Path, "1s", "soon", 1)
	}
	return call
}

func reset(t *testing.T, mesh *program) {
	t.Helper()
	if a := mesh.call(t, "POST", "/sandbox:reset", nil, ""); a.status != http.StatusNoContent {
		t.Fatalf("reset: %d %s", a.status, a.body)
	}
}

// visit makes the calls before the call, then the call itself, and checks the status.
func visit(t *testing.T, mesh *program, call examples.Call, want string) {
	t.Helper()
	recording, got, err := call.Record(t.Context(), client, mesh.base)
	call.Status = got
	if err != nil || statusOf(call) != want {
		t.Errorf("%s %s: %d %.300s (%v), want %s", call.Method, call.Path, got, recording.Answer, err, want)
	}
	if got >= 400 && !strings.Contains(recording.Answer, "google.rpc.RequestInfo") {
		t.Errorf("%s %s: %d %.300s", call.Method, call.Path, got, recording.Answer)
	}
}

func openSocket(t *testing.T, mesh *program, call examples.Call) {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), mesh.base+call.Path, &websocket.DialOptions{
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

// keyed returns the call with a new Idempotency-Key. A public method needs an API key for it.
func keyed(call examples.Call) examples.Call {
	return with(with(call, "X-Api-Key", examples.Key), "Idempotency-Key", rand.Text())
}

// reuseKey makes the call, and then another one of the same method with the same key.
func reuseKey(t *testing.T, mesh *program, works examples.Call) {
	t.Helper()
	reset(t, mesh)
	first := keyed(works)
	visit(t, mesh, first, strconv.Itoa(works.Status))
	first.Before = nil
	var tried []int
	for other := range otherRequests(first) {
		_, got, err := other.Record(t.Context(), client, mesh.base)
		if err != nil {
			t.Fatal(err)
		}
		if got == http.StatusUnprocessableEntity {
			return
		}
		tried = append(tried, got)
	}
	t.Errorf("%s %s: statuses %v, want 422", works.Method, works.Path, tried)
}

// otherRequests returns variants of a call that are other requests of the same method: for another
// resource, or with one value changed. Some of them are invalid.
func otherRequests(call examples.Call) iter.Seq[examples.Call] {
	return func(yield func(examples.Call) bool) {
		for _, ulid := range ulids.FindAllString(call.Path, -1) {
			other := call
			absent := strings.Repeat("Z", len(ulid))
			other.Path, other.Body = strings.ReplaceAll(call.Path, ulid, absent), strings.ReplaceAll(call.Body, ulid, absent)
			if !yield(other) {
				return
			}
		}
		for _, at := range values.FindAllStringIndex(call.Body, -1) {
			other := call
			other.Body = call.Body[:at[1]-1] + "1" + call.Body[at[1]-1:]
			if !yield(other) {
				return
			}
		}
	}
}

var (
	ulids = regexp.MustCompile(`[0-9A-HJKMNP-TV-Z]{26}`)
	// values are the strings of a JSON object that are values.
	values = regexp.MustCompile(`:\s*"[^"]*"`)
)
