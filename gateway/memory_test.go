package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/gateway"
	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	"github.com/meshtrade/mesh-gateway/internal/upstream"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
)

const (
	maxReply  = 8 << 20
	smallest  = budget.MinLimit / 4 // the share of a caller in the smallest budget
	validBody = `{"owner": "groups/00000000000000000000000001", "displayName": "A group"}`
)

// within admits the calls of one caller to a budget.
func within(memory *budget.Budget) gateway.Option {
	return gateway.WithMethodMiddleware(func(m gateway.Method) []func(http.Handler) http.Handler {
		method := contract.ByName(m.Name())
		return []func(http.Handler) http.Handler{func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				lease, err := memory.Admit(r.Context(), budget.Call{Caller: budget.Caller{'a'}, RPC: m.Name(), Write: method.Write, Stream: method.Streams(), Body: r.ContentLength})
				if err != nil {
					apierror.Write(w, err)
					return
				}
				defer lease.Release()
				next.ServeHTTP(w, r.WithContext(lease))
			})
		}}
	})
}

// groupOf is a reply to each method of groups, whose description has a size.
func groupOf(size int) func(protoreflect.MethodDescriptor) ([]proto.Message, error) {
	return func(protoreflect.MethodDescriptor) ([]proto.Message, error) {
		return []proto.Message{&groupv1.Group{Description: strings.Repeat("x", size)}}, nil
	}
}

// TestRepliesWithinTheBudget has replies of every size, over a plain connection and over that of the
// gateway, which words errors itself.
func TestRepliesWithinTheBudget(t *testing.T) {
	const get, create = "GET /v1/groups/01ARZ3NDEKTSV4RRFFQ69G5FAV", "POST /v1/groups"
	for _, test := range []struct {
		name, request string
		size          int
		// held is what another call of the caller holds, in bytes.
		held   int64
		status int
		reason apierror.Reason
		// calls is how many calls reach the upstream.
		calls int
	}{
		{"a small one", get, 100, 0, 200, "", 1},
		{"one that is larger than expected is asked for again", get, 1 << 20, 0, 200, "", 2},
		{"one that does not fit", get, 2 << 20, smallest * 3 / 4, 503, apierror.Overloaded, 1},
		{"one that is too large for any call", get, maxReply + 1, 0, 502, apierror.UpstreamReply, 1},
		{"a call for which there is no room", get, 100, smallest, 503, apierror.Overloaded, 0},
		{"the reply to a write is not limited", create, 2 << 20, smallest * 3 / 4, 200, "", 1},
		{"a write for which there is no room", create, 100, smallest, 503, apierror.Overloaded, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			mesh := meshtest.NewUpstream(t)
			mesh.Answer(groupOf(test.size))
			conn, err := upstream.Dial(mesh.Target, upstream.Options{Plaintext: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			memory := budget.New(budget.Options{Limit: budget.MinLimit, MaxReply: maxReply})
			if test.held > 0 {
				other, err := memory.Admit(t.Context(), budget.Call{Caller: budget.Caller{'a'}, RPC: "/Other", Write: true})
				if err != nil {
					t.Fatal(err)
				}
				other.Hold(test.held)
			}
			before := memory.Held()
			verb, path, _ := strings.Cut(test.request, " ")
			body := ""
			if verb == "POST" {
				body = validBody
			}
			request, err := http.NewRequestWithContext(t.Context(), verb, serveUpstream(t, conn, within(memory))+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if body != "" {
				request.Header.Set("Content-Type", "application/json")
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
			if response.StatusCode != test.status || !strings.Contains(string(text), string(test.reason)) {
				t.Errorf("%s: %.300s; want %d %s", response.Status, text, test.status, test.reason)
			}
			if test.status == 200 && strings.Count(string(text), "x") < test.size {
				t.Errorf("%d bytes of a reply with %d", len(text), test.size)
			}
			if test.reason == apierror.Overloaded && strings.Contains(string(text), "Nothing was sent") != (test.calls == 0) {
				t.Errorf("%d calls, but the error says %s", test.calls, text)
			}
			if calls := len(mesh.Calls()); calls != test.calls {
				t.Errorf("%d calls reached the upstream, want %d", calls, test.calls)
			}
			// The client has the response before the handler returns.
			for deadline := time.Now().Add(10 * time.Second); memory.Held() != before && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			if memory.Held() != before {
				t.Errorf("held = %d, want %d", memory.Held(), before)
			}
		})
	}
}

// TestAWriteIsNeverRepeated has a lease with a limit for the reply, which a write must not have.
func TestAWriteIsNeverRepeated(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	mesh.Answer(groupOf(1 << 20))
	memory := budget.New(budget.Options{Limit: budget.MinLimit, MaxReply: maxReply})
	handler, err := gateway.New(mesh.Dial(t))
	if err != nil {
		t.Fatal(err)
	}
	lease, err := memory.Admit(t.Context(), budget.Call{Caller: budget.Caller{'a'}, RPC: "/Read"})
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequestWithContext(lease, http.MethodPost, "/v1/groups", strings.NewReader(validBody))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	if calls := len(mesh.Calls()); recorder.Code != http.StatusOK || calls != 1 {
		t.Errorf("%d calls: %d %.300s", calls, recorder.Code, recorder.Body)
	}
}

// TestTheSizeIsRemembered calls a method twice. Only the first reply is unexpected.
func TestTheSizeIsRemembered(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	mesh.Answer(groupOf(100_000))
	url := serveUpstream(t, mesh.Dial(t), within(budget.New(budget.Options{Limit: budget.MinLimit, MaxReply: maxReply})))
	for _, want := range []int{2, 1} {
		response := get(t, "GET", url+"/v1/groups/01ARZ3NDEKTSV4RRFFQ69G5FAV", nil)
		if body, err := io.ReadAll(response.Body); err != nil || len(body) < 100_000 {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
		if calls := len(mesh.Calls()); calls != want {
			t.Errorf("%d calls, want %d", calls, want)
		}
	}
}

// TestTheReplyIsCounted looks at the budget while a reply is written.
func TestTheReplyIsCounted(t *testing.T) {
	memory := budget.New(budget.Options{Limit: budget.MinLimit, MaxReply: maxReply})
	mesh := meshtest.NewUpstream(t)
	mesh.Answer(groupOf(3 << 20))
	handler, err := gateway.New(mesh.Dial(t), within(memory))
	if err != nil {
		t.Fatal(err)
	}
	for verb, path := range map[string]string{"GET": "/v1/groups/01ARZ3NDEKTSV4RRFFQ69G5FAV", "POST": "/v1/groups"} {
		var most int64
		request, err := http.NewRequestWithContext(t.Context(), verb, path, strings.NewReader(validBody))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if verb == "GET" {
			request.Body, request.ContentLength = nil, 0
		}
		handler.ServeHTTP(writerFunc(func(data []byte) { most = max(most, memory.Held()) }), request)
		if most < 3<<20 || memory.Held() != 0 {
			t.Errorf("%s: %d bytes were held while the reply was written and %d afterwards", verb, most, memory.Held())
		}
		if write := verb == "POST"; write && most < 6<<20 {
			t.Errorf("%d bytes were held for the reply to a write and its JSON", most)
		}
	}
}

// writerFunc is a response whose body is passed to a function.
type writerFunc func([]byte)

func (writerFunc) Header() http.Header { return http.Header{} }
func (writerFunc) WriteHeader(int)     {}
func (writerFunc) Flush()              {}

func (f writerFunc) Write(data []byte) (int, error) {
	f(data)
	return len(data), nil
}

// TestAStructureThatDoesNotFit has a body that is small, but not as a message.
func TestAStructureThatDoesNotFit(t *testing.T) {
	mesh := meshtest.NewUpstream(t)
	memory := budget.New(budget.Options{Limit: budget.MinLimit, MaxReply: maxReply})
	other, err := memory.Admit(t.Context(), budget.Call{Caller: budget.Caller{'a'}, RPC: "/Other", Write: true})
	if err != nil {
		t.Fatal(err)
	}
	other.Hold(smallest / 2)
	before := memory.Held()
	url := serveUpstream(t, mesh.Dial(t), within(memory))
	for count, want := range map[int]string{1000: "INVALID_REQUEST", 100_000: "OVERLOADED"} {
		body := `{"signatories": [` + strings.Repeat("{},", count) + "{}]}"
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/accounts", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%d objects: %v %s, want %s", count, err, text, want)
		}
	}
	if memory.Held() != before || len(mesh.Calls()) != 0 {
		t.Errorf("held = %d, and %d calls reached the upstream", memory.Held(), len(mesh.Calls()))
	}
}

// TestMessagesAreCounted looks at the budget while the messages of a stream are written.
func TestMessagesAreCounted(t *testing.T) {
	memory := budget.New(budget.Options{Limit: budget.MinLimit, MaxReply: maxReply})
	mesh := meshtest.NewUpstream(t)
	mesh.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) {
		large := &limitorderv1.LimitOrder{ExternalReference: strings.Repeat("x", 1<<20)}
		return []proto.Message{large, &limitorderv1.LimitOrder{ExternalReference: "small"}}, nil
	})
	handler, err := gateway.New(mesh.Dial(t), within(memory))
	if err != nil {
		t.Fatal(err)
	}
	held := make(map[bool]int64) // by whether it is part of the large one
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/limit_orders/00000000000000000000000002:monitor", nil)
	if err != nil {
		t.Fatal(err)
	}
	handler.ServeHTTP(writerFunc(func(data []byte) {
		if len(data) > 2 {
			held[!strings.Contains(string(data), "small")] = memory.Held()
		}
	}), request)
	if held[true] < 2<<20 || held[false] == 0 || held[false] > 1<<20 || memory.Held() != 0 {
		t.Errorf("%d bytes were held for a large message, %d for a small one, and %d in the end", held[true], held[false], memory.Held())
	}
}
