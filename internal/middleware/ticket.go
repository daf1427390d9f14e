package middleware

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/access"
	"github.com/meshtrade/mesh-gateway/internal/apierror"
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
	now     func() time.Time

	mu  sync.Mutex
	out map[string]ticket
}

type ticket struct {
	key, group, path string
	expires          time.Time
}

// NewTickets returns tickets for the streams among the methods.
func NewTickets(methods []*access.Method) *Tickets {
	t := &Tickets{streams: chi.NewRouter(), now: time.Now, out: make(map[string]ticket)}
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
		apierror.Write(w, apierror.Invalid([]apierror.Violation{{
			Field: "path", Description: `must be the path of a stream, without a query: send {"path": "/v1/limit_orders/{ULID}:monitor"}`}}))
		return
	}
	name, expires := rand.Text(), t.now().Add(ticketTime)
	if !t.keep(name, ticket{r.Header.Get(apiKeyHeader), r.Header.Get(groupHeader), request.Path, expires}) {
		apierror.Write(w, apierror.New(codes.ResourceExhausted, apierror.RateLimited, "Too many tickets are out. Try again in half a minute."))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{ // the client may be gone
		"ticket": name, "expireTime": expires.UTC().Format(time.RFC3339),
	})
}

func (t *Tickets) keep(name string, one ticket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.out) >= maxTickets {
		for other, kept := range t.out {
			if t.now().After(kept.expires) {
				delete(t.out, other)
			}
		}
	}
	if len(t.out) >= maxTickets {
		return false
	}
	t.out[name] = one
	return true
}

// Redeem puts the key and the group that a ticket stands for in its place.
func (t *Tickets) Redeem(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if !query.Has("ticket") {
			next.ServeHTTP(w, r)
			return
		}
		one, ok := t.take(query.Get("ticket"))
		if !ok || r.Method != http.MethodGet || one.path != r.URL.Path {
			w.Header().Set("WWW-Authenticate", `Bearer realm="mesh"`)
			apierror.Write(w, apierror.New(codes.Unauthenticated, apierror.CredentialsMalformed,
				"The ticket is not good: it opens one stream, once, within 30 seconds. Ask for another (POST /stream_tickets)."))
			return
		}
		query.Del("ticket")
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
		r.Header.Del(authorizationHeader)
		r.Header.Set(apiKeyHeader, one.key)
		r.Header.Set(groupHeader, one.group)
		next.ServeHTTP(w, r)
	})
}

// take returns a ticket that can still be redeemed; it cannot again.
func (t *Tickets) take(name string) (ticket, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one, ok := t.out[name]
	delete(t.out, name)
	return one, ok && !t.now().After(one.expires)
}
