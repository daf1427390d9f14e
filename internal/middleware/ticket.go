package middleware

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

const (
	// ticketTime is how long a ticket can be redeemed.
	ticketTime = 30 * time.Second
	// maxTickets bounds those that are out at a time.
	maxTickets = 10_000
	// maxTicketRequest is the largest request for a ticket, in bytes.
	maxTicketRequest = 4 << 10
)

// Tickets let a browser open a stream: EventSource and WebSocket cannot set
// headers, and a key must not stand in a URL, which histories and logs keep. A
// ticket stands for the key and the group of who asked for it, on one path,
// once, for 30 seconds.
type Tickets struct {
	streams chi.Router
	store   TicketStore
}

// Ticket is what a ticket stands for.
type Ticket struct {
	Key, Group, Path string
	Expires          time.Time
}

// TicketStore keeps the tickets that are out. It is an interface so that several
// gateways behind one address can share a store.
type TicketStore interface {
	// Keep stores a ticket until it expires. It fails where there is no room.
	Keep(ctx context.Context, name string, ticket Ticket) error
	// Take removes a ticket and returns it, to one caller alone. It reports
	// false for one that is not there or has expired.
	Take(ctx context.Context, name string) (Ticket, bool, error)
}

// NewTickets returns tickets for the streams among the methods.
func NewTickets(methods []*contract.Method, store TicketStore) *Tickets {
	t := &Tickets{streams: chi.NewRouter(), store: store}
	for _, method := range methods {
		for _, binding := range method.Bindings {
			if method.Streams() {
				t.streams.Method(binding.Verb, binding.Pattern("{id:[^/:]+}"), http.NotFoundHandler())
			}
		}
	}
	return t
}

// Issue answers a request {"path": "/v1/…:monitor"} with a ticket. It is put
// behind Auth.
func (t *Tickets) Issue(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Path string `json:"path"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxTicketRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil || !t.streams.Match(chi.NewRouteContext(), http.MethodGet, request.Path) {
		apierror.Write(w, r, apierror.Invalid(apierror.Violation{
			Field: "path", Description: `must be the path of a stream, without a query: send {"path": "/v1/limit_orders/{ULID}:monitor"}`}))
		return
	}
	name, expires := rand.Text(), time.Now().Add(ticketTime)
	if err := t.store.Keep(r.Context(), name, Ticket{r.Header.Get(apiKeyHeader), r.Header.Get(groupHeader), request.Path, expires}); err != nil {
		apierror.Write(w, r, apierror.New(codes.ResourceExhausted, apierror.RateLimited, "Too many tickets are out. Try again in half a minute."))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{ // the client may be gone
		"ticket": name, "expireTime": expires.UTC().Format(time.RFC3339),
	})
}

// Redeem puts the key and the group that a ticket stands for in its place.
func (t *Tickets) Redeem(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if !query.Has("ticket") {
			next.ServeHTTP(w, r)
			return
		}
		one, ok, err := t.store.Take(r.Context(), query.Get("ticket"))
		if err != nil {
			apierror.Write(w, r, apierror.New(codes.Unavailable, apierror.UpstreamUnreachable, "Tickets cannot be looked up now. Ask for another in a moment."))
			return
		}
		if !ok || r.Method != http.MethodGet || one.Path != r.URL.Path {
			w.Header().Set("WWW-Authenticate", `Bearer realm="mesh"`)
			apierror.Write(w, r, apierror.New(codes.Unauthenticated, apierror.CredentialsMalformed,
				"The ticket is not good: it opens one stream, once, within 30 seconds. Ask for another (POST /stream_tickets)."))
			return
		}
		query.Del("ticket")
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
		r.Header.Del(authorizationHeader)
		r.Header.Set(apiKeyHeader, one.Key)
		r.Header.Set(groupHeader, one.Group)
		next.ServeHTTP(w, r)
	})
}

// MemoryTickets is a TicketStore of one process, bounded in size.
type MemoryTickets struct {
	now func() time.Time

	mu  sync.Mutex
	out map[string]Ticket
}

// NewMemoryTickets returns a store that is empty.
func NewMemoryTickets() *MemoryTickets {
	return &MemoryTickets{now: time.Now, out: make(map[string]Ticket)}
}

var errNoRoom = errors.New("middleware: too many tickets are out")

// Keep implements TicketStore.
func (m *MemoryTickets) Keep(_ context.Context, name string, ticket Ticket) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.out) >= maxTickets {
		for other, kept := range m.out {
			if m.now().After(kept.Expires) {
				delete(m.out, other)
			}
		}
	}
	if len(m.out) >= maxTickets {
		return errNoRoom
	}
	m.out[name] = ticket
	return nil
}

// Take implements TicketStore.
func (m *MemoryTickets) Take(_ context.Context, name string) (Ticket, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ticket, ok := m.out[name]
	delete(m.out, name)
	return ticket, ok && !m.now().After(ticket.Expires), nil
}
