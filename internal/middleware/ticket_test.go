package middleware

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
)

const streamPath = "/v1/limit_orders/00000000000000000000000001:monitor"

func TestIssue(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       int
	}{
		{"a stream", `{"path": "` + streamPath + `"}`, http.StatusOK},
		{"a stream without a variable", `{"path": "/v1/limit_orders:monitor"}`, http.StatusOK},
		{"a read", `{"path": "/v1/groups"}`, http.StatusBadRequest},
		{"a write", `{"path": "/v1/limit_orders/00000000000000000000000001:cancel"}`, http.StatusBadRequest},
		{"an unknown path", `{"path": "/v1/nothing:monitor"}`, http.StatusBadRequest},
		{"a query", `{"path": "` + streamPath + `?x=y"}`, http.StatusBadRequest},
		{"no path", `{}`, http.StatusBadRequest},
		{"a query of its own", `{"path": "` + streamPath + `", "query": "liveLedgerData=true"}`, http.StatusOK},
		{"a query with a question mark", `{"path": "` + streamPath + `", "query": "?liveLedgerData=true"}`, http.StatusBadRequest},
		{"a malformed query", `{"path": "` + streamPath + `", "query": "a=%zz"}`, http.StatusBadRequest},
		{"an unknown field", `{"path": "` + streamPath + `", "key": "x"}`, http.StatusBadRequest},
		{"not JSON", `path`, http.StatusBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			NewTickets(newTicketStore(), vouched).Issue(w, httptest.NewRequest(http.MethodPost, "/stream_tickets", strings.NewReader(test.body)))
			if w.Code != test.want {
				t.Errorf("status %d, want %d: %s", w.Code, test.want, w.Body)
			}
		})
	}
}

// TestRedeem redeems a ticket for testKey and streamPath with each request.
func TestRedeem(t *testing.T) {
	for _, test := range []struct {
		name, rpc, method, path, query string
		rejected                       bool
		rest                           string // of the query
		key                            string // of the request that the handler receives
	}{
		{"a ticket", streamMethod, http.MethodGet, streamPath, "ticket=TICKET", false, "", testKey},
		{"with a parameter that it was not issued for", streamMethod, http.MethodGet, streamPath, "ticket=TICKET&b=x", true, "", ""},
		{"percent-encoded", streamMethod, http.MethodGet, streamPath, "%74icket=TICKE%54", false, "", testKey},
		{"twice", streamMethod, http.MethodGet, streamPath, "ticket=TICKET&ticket=x", false, "", testKey},
		{"no ticket", streamMethod, http.MethodGet, streamPath, "b=%2f+x&tickets=1", false, "b=%2f+x&tickets=1", otherKey},
		{"no query", streamMethod, http.MethodGet, streamPath, "", false, "", otherKey},
		{"for another stream", streamMethod, http.MethodGet, "/v1/limit_orders/00000000000000000000000002:monitor", "ticket=TICKET", true, "", ""},
		{"with HEAD", streamMethod, http.MethodHead, streamPath, "ticket=TICKET", true, "", ""},
		{"a guess", streamMethod, http.MethodGet, streamPath, "ticket=GUESS", true, "", ""},
		{"a guess before the ticket", streamMethod, http.MethodGet, streamPath, "ticket=GUESS&ticket=TICKET", true, "", ""},
		{"empty", streamMethod, http.MethodGet, streamPath, "ticket", true, "", ""},
		{"malformed", streamMethod, http.MethodGet, streamPath, "ticket=%zz", true, "", ""},
		{"on a read", readMethod, http.MethodGet, "/v1/groups/x", "ticket=TICKET", false, "ticket=TICKET", otherKey},
		{"on a write", writeMethod, http.MethodPost, "/v1/groups", "ticket=TICKET", false, "ticket=TICKET", otherKey},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := newTicketStore()
			tickets := NewTickets(store, vouched)
			if err := store.Keep(t.Context(), "TICKET", Ticket{Key: testKey, Group: testGroup, Path: streamPath, Expires: time.Now().Add(ticketTime)}); err != nil {
				t.Fatal(err)
			}
			r := headers(httptest.NewRequest(test.method, test.path+"?"+test.query, nil), "X-Api-Key", otherKey, "X-Group", otherGroup, "Authorization", "Basic x")
			w, next := httptest.NewRecorder(), new(capture)
			tickets.Redeem(contract.ByName(test.rpc))(next).ServeHTTP(w, r)
			if test.rejected {
				if next.request != nil {
					t.Fatal("reached the handler")
				}
				wantError(t, w, http.StatusUnauthorized, apierror.CredentialsMalformed)
				if w.Header().Get("WWW-Authenticate") == "" {
					t.Error("no WWW-Authenticate")
				}
				return
			}
			if next.request == nil {
				t.Fatalf("rejected: %s", w.Body)
			}
			group, authorization := testGroup, ""
			if test.key == otherKey {
				group, authorization = otherGroup, "Basic x"
			}
			for name, want := range map[string]string{"X-Api-Key": test.key, "X-Group": group, "Authorization": authorization} {
				if got := next.request.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if got := next.request.URL.RawQuery; got != test.rest {
				t.Errorf("query %q, want %q", got, test.rest)
			}
			if r.URL.RawQuery != test.query {
				t.Errorf("the caller's own URL was changed to %s", r.URL)
			}
		})
	}
}

// TestTicketBindsTheQuery redeems a ticket with other queries than that of its request.
func TestTicketBindsTheQuery(t *testing.T) {
	const bound = "externalReference=a+b&liveLedgerData=true"
	for _, test := range []struct {
		name, query string
		rejected    bool
	}{
		{"the same", bound, false},
		{"in another order", "liveLedgerData=true&externalReference=a+b", false},
		{"escaped otherwise", "externalReference=a%20b&liveLedgerData=tru%65", false},
		{"another value", "externalReference=a+c&liveLedgerData=true", true},
		{"a parameter more", bound + "&fields=state", true},
		{"a parameter twice", bound + "&externalReference=c", true},
		{"a parameter less", "externalReference=a+b", true},
		{"none", "", true},
		{"malformed", bound + "&x=%zz", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			tickets := NewTickets(newTicketStore(), vouched)
			w := httptest.NewRecorder()
			body := `{"path": "` + streamPath + `", "query": "` + bound + `"}`
			tickets.Issue(w, headers(httptest.NewRequest(http.MethodPost, "/stream_tickets", strings.NewReader(body)), "X-Api-Key", testKey, "X-Group", testGroup))
			var issued struct{ Ticket string }
			if err := json.Unmarshal(w.Body.Bytes(), &issued); err != nil || issued.Ticket == "" {
				t.Fatalf("%v: %s", err, w.Body)
			}
			next := new(capture)
			w = httptest.NewRecorder()
			url := streamPath + "?ticket=" + issued.Ticket
			if test.query != "" {
				url += "&" + test.query
			}
			tickets.Redeem(contract.ByName(streamMethod))(next).ServeHTTP(w, httptest.NewRequest(http.MethodGet, url, nil))
			if test.rejected {
				wantError(t, w, http.StatusUnauthorized, apierror.CredentialsMalformed)
			} else if next.request == nil || next.request.URL.RawQuery != test.query || next.request.Header.Get("X-Api-Key") != testKey {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
		})
	}
}

func TestATicketNeedsAKeyThatMeshAccepts(t *testing.T) {
	refusal := status.Error(codes.Unauthenticated, "The API key is unknown.")
	store := newTicketStore()
	kept := &counting{TicketStore: store}
	tickets := NewTickets(kept, func(_ context.Context, header http.Header) error {
		if header.Get("X-Api-Key") != testKey {
			return refusal
		}
		return nil
	})
	for key, want := range map[string]int{testKey: http.StatusOK, otherKey: http.StatusUnauthorized} {
		w := httptest.NewRecorder()
		tickets.Issue(w, headers(httptest.NewRequest(http.MethodPost, "/stream_tickets", strings.NewReader(`{"path": "`+streamPath+`"}`)), "X-Api-Key", key, "X-Group", testGroup))
		if w.Code != want {
			t.Errorf("status %d, want %d: %s", w.Code, want, w.Body)
		}
	}
	if kept.tickets != 1 {
		t.Errorf("%d tickets are kept, want 1", kept.tickets)
	}
}

// counting counts the tickets that it is given.
type counting struct {
	TicketStore
	tickets int
}

func (c *counting) Keep(ctx context.Context, name string, ticket Ticket) error {
	c.tickets++
	return c.TicketStore.Keep(ctx, name, ticket)
}

// failing is a store that cannot be reached.
type failing struct{ err error }

func (f failing) Keep(context.Context, string, Ticket) error { return f.err }

func (f failing) Take(context.Context, string) (Ticket, bool, error) { return Ticket{}, false, f.err }

func TestFailingTicketStore(t *testing.T) {
	lost := errors.New("dial tcp 10.0.0.1: refused")
	for _, test := range []struct {
		name   string
		err    error
		redeem bool
		status int
		reason apierror.Reason
	}{
		{"store full", ErrTooManyTickets, false, http.StatusTooManyRequests, apierror.RateLimited},
		{"unreachable on issue", lost, false, http.StatusServiceUnavailable, apierror.UpstreamUnreachable},
		{"unreachable on redeem", lost, true, http.StatusServiceUnavailable, apierror.UpstreamUnreachable},
	} {
		t.Run(test.name, func(t *testing.T) {
			tickets := NewTickets(failing{test.err}, vouched)
			var handler http.Handler = http.HandlerFunc(tickets.Issue)
			if test.redeem {
				handler = tickets.Redeem(contract.ByName(streamMethod))(new(capture))
			}
			r := httptest.NewRequest(http.MethodPost, streamPath+"?ticket=x", strings.NewReader(`{"path": "`+streamPath+`"}`))
			w := httptest.NewRecorder()
			var observed error
			Observe(func(o *Observation) { observed = o.Err })(handler).ServeHTTP(w, r)
			wantError(t, w, test.status, test.reason)
			if !errors.Is(observed, test.err) {
				t.Errorf("observed %v, want the cause %v", observed, test.err)
			}
			if strings.Contains(w.Body.String(), "10.0.0.1") {
				t.Errorf("the response contains the cause: %s", w.Body)
			}
		})
	}
}

// vouched vouches for every key.
func vouched(context.Context, http.Header) error { return nil }

func newTicketStore() TicketStore { return NewSealedTickets(memstore.New(memstore.DefaultLimits())) }
