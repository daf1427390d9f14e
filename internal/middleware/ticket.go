package middleware

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// maxTicketRequest is the maximum size of a request for a ticket, in bytes.
const maxTicketRequest = 4 << 10

// Tickets lets browsers open streams. EventSource and WebSocket cannot set headers, and a URL must
// not contain an API key, because histories and logs keep URLs. A ticket replaces the key and the
// group for one request to one path with one query, and expires after 30 seconds.
type Tickets struct {
	store TicketStore
	vouch Vouch
}

// Vouch reports whether Mesh accepts the API key in the header of a request that was admitted. The
// error is the answer to the request.
type Vouch func(ctx context.Context, header http.Header) error

// NewTickets returns Tickets that are kept in store. A ticket takes room there, so it is issued only
// for a key that Mesh vouches for.
func NewTickets(store TicketStore, vouch Vouch) *Tickets { return &Tickets{store, vouch} }

// Issue responds to a request {"path": "/v1/…:monitor", "query": "…"} with a ticket. It requires
// [Admit], which checks the form of the credentials that the ticket replaces, and limits the tickets
// of a key and of an address.
func (t *Tickets) Issue(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Path  string `json:"path"`
		Query string `json:"query"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxTicketRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil || !isStream(request.Path) {
		apierror.Write(w, apierror.Invalid(apierror.Violation{
			Field: "path", Description: `must be the path of a stream; send {"path": "/v1/limit_orders/{ULID}:monitor", "query": "liveLedgerData=true"}, or no query if the stream is opened without one`}))
		return
	}
	if _, err := url.ParseQuery(request.Query); err != nil || strings.HasPrefix(request.Query, "?") {
		apierror.Write(w, apierror.Invalid(apierror.Violation{
			Field: "query", Description: `must be the query of the stream as it will be sent, without "?" and without the ticket`}))
		return
	}
	if err := t.vouch(r.Context(), r.Header); err != nil {
		apierror.Write(w, err)
		return
	}
	name, expires := rand.Text(), time.Now().Add(ticketTime)
	ticket := Ticket{Key: r.Header.Get(wire.APIKeyHeader), Group: r.Header.Get(wire.GroupHeader), Path: request.Path, Query: request.Query, Expires: expires}
	if err := t.store.Keep(r.Context(), name, ticket); err != nil {
		failure := apierror.New(codes.Unavailable, apierror.UpstreamUnreachable, "The gateway cannot issue tickets at the moment. Try again later.")
		if errors.Is(err, ErrTooManyTickets) {
			failure = apierror.New(codes.ResourceExhausted, apierror.RateLimited, "Too many unused tickets exist. Try again in 30 seconds.")
		}
		apierror.Write(w, failure.WithCause(err))
		return
	}
	w.Header().Set("Content-Type", wire.JSON)
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{ // fails only if the client is gone
		"ticket": name, "expireTime": expires.UTC().Format(time.RFC3339),
	})
}

// isStream reports whether a GET request to the path calls a streaming method.
func isStream(path string) bool {
	found, _ := contract.Match(path)
	if found == nil {
		return false
	}
	binding := found.Binding(http.MethodGet)
	return binding != nil && binding.Method.Streams()
}

// Redeem replaces the ticket in the query of a request for a stream with its key and group. It must
// come before [Admit]. It does nothing for methods that do not stream.
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
				apierror.Write(w, apierror.New(codes.Unavailable, apierror.UpstreamUnreachable,
					"The gateway cannot look up tickets at the moment. Request another ticket later. Nothing was sent to the Mesh API.").WithCause(err))
				return
			}
			if !ok || r.Method != http.MethodGet || ticket.Path != r.URL.Path || !sameQuery(ticket.Query, query) {
				apierror.Write(w, apierror.New(codes.Unauthenticated, apierror.CredentialsMalformed,
					"The ticket is not valid. A ticket can be used once, within 30 seconds, for the path and the query that it was issued for. Request another with POST "+wire.TicketsPath+"."))
				return
			}
			r.Header.Del(wire.AuthorizationHeader)
			r.Header.Set(wire.APIKeyHeader, ticket.Key)
			r.Header.Set(wire.GroupHeader, ticket.Group)
			// Handlers must not modify the request of their caller, so change a copy.
			u := *r.URL
			u.RawQuery = query
			r = r.WithContext(r.Context())
			r.URL = &u
			next.ServeHTTP(w, r)
		})
	}
}

// sameQuery reports whether two queries have the same parameters. Their order does not matter, except
// for the values of one parameter.
func sameQuery(a, b string) bool {
	if a == b {
		return true
	}
	first, firstErr := url.ParseQuery(a)
	second, secondErr := url.ParseQuery(b)
	return firstErr == nil && secondErr == nil && maps.EqualFunc(first, second, slices.Equal)
}

// cutTicket removes the parameter "ticket" from a query and returns its first value. It does not
// change the other parameters.
func cutTicket(query string) (name, rest string, found bool) {
	var kept strings.Builder
	for pair := range strings.SplitSeq(query, "&") {
		field, value, _ := strings.Cut(pair, "=")
		if field, err := url.QueryUnescape(field); err == nil && field == wire.TicketParameter {
			if !found {
				found = true
				name, _ = url.QueryUnescape(value) // a malformed value becomes "", which is never a ticket
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
