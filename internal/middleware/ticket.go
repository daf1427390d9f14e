package middleware

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// maxTicketRequest is the largest request for a ticket, in bytes.
const maxTicketRequest = 4 << 10

// Tickets let a browser open a stream: EventSource and WebSocket cannot set
// headers, and a key must not stand in a URL, which histories and logs keep. A
// ticket stands for the key and the group of its owner, on one path, once, for 30
// seconds.
type Tickets struct{ store TicketStore }

// NewTickets returns tickets that are kept in the store.
func NewTickets(store TicketStore) *Tickets { return &Tickets{store} }

// Issue answers a request {"path": "/v1/…:monitor"} with a ticket. It needs [Admit],
// which checks the credentials that the ticket stands for.
func (t *Tickets) Issue(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Path string `json:"path"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxTicketRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil || !isStream(request.Path) {
		apierror.Write(w, r, apierror.Invalid(apierror.Violation{
			Field: "path", Description: `must be the path of a stream, without a query: send {"path": "/v1/limit_orders/{ULID}:monitor"}`}))
		return
	}
	name, expires := rand.Text(), time.Now().Add(ticketTime)
	ticket := Ticket{Key: r.Header.Get(wire.APIKeyHeader), Group: r.Header.Get(wire.GroupHeader), Path: request.Path, Expires: expires}
	if err := t.store.Keep(r.Context(), name, ticket); err != nil {
		refusal := apierror.New(codes.Unavailable, apierror.UpstreamUnreachable, "Tickets cannot be issued right now. Try again in a moment.")
		if errors.Is(err, ErrTooManyTickets) {
			refusal = apierror.New(codes.ResourceExhausted, apierror.RateLimited, "Too many tickets are out. Try again in half a minute.")
		}
		apierror.Write(w, r, refusal.WithCause(err))
		return
	}
	w.Header().Set("Content-Type", wire.JSON)
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{ // the client may be gone
		"ticket": name, "expireTime": expires.UTC().Format(time.RFC3339),
	})
}

// isStream reports whether GET of the path is a streaming method of the contract.
func isStream(path string) bool {
	found, _ := contract.Match(path)
	if found == nil {
		return false
	}
	binding := found.Binding(http.MethodGet)
	return binding != nil && binding.Method.Streams()
}

// Redeem replaces the ticket in the query of a stream by the key and the group that
// it stands for. It comes before [Admit]. Methods that do not stream know no tickets.
func (t *Tickets) Redeem(method *contract.Method) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if !method.Streams() {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name, query, found := cutTicket(r.URL.RawQuery)
			if !found {
				next.ServeHTTP(w, r)
				return
			}
			ticket, ok, err := t.store.Take(r.Context(), name)
			if err != nil {
				apierror.Write(w, r, apierror.New(codes.Unavailable, apierror.UpstreamUnreachable,
					"Tickets cannot be looked up now. Ask for another in a moment.").WithCause(err))
				return
			}
			if !ok || r.Method != http.MethodGet || ticket.Path != r.URL.Path {
				apierror.Write(w, r, apierror.New(codes.Unauthenticated, apierror.CredentialsMalformed,
					"The ticket is not good: it opens one stream, once, within 30 seconds. Ask for another (POST "+wire.TicketsPath+")."))
				return
			}
			r.Header.Del(wire.AuthorizationHeader)
			r.Header.Set(wire.APIKeyHeader, ticket.Key)
			r.Header.Set(wire.GroupHeader, ticket.Group)
			// The URL belongs to whoever called this handler, so a copy is changed.
			u := *r.URL
			u.RawQuery = query
			r = r.WithContext(r.Context())
			r.URL = &u
			next.ServeHTTP(w, r)
		})
	}
}

// cutTicket takes the ticket out of a query and returns its first value.
// The other parameters stay as they were sent.
func cutTicket(query string) (name, rest string, found bool) {
	var kept strings.Builder
	for pair := range strings.SplitSeq(query, "&") {
		field, value, _ := strings.Cut(pair, "=")
		if field, err := url.QueryUnescape(field); err == nil && field == wire.TicketParameter {
			if !found {
				found = true
				name, _ = url.QueryUnescape(value) // one that is malformed is "", which is no ticket
			}
			continue
		}
		if kept.Len() > 0 {
			kept.WriteByte('&')
		}
		kept.WriteString(pair)
	}
	return name, kept.String(), found
}
