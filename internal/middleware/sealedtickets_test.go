package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
)

// ticketShelf keeps what was stored last, and can lose or change it.
type ticketShelf struct {
	idempotency.Tickets
	sealed []byte
	change bool
	err    error
}

func (s *ticketShelf) PutTicket(ctx context.Context, id [32]byte, sealed []byte, lifetime time.Duration) error {
	s.sealed = bytes.Clone(sealed)
	if s.err != nil {
		return s.err
	}
	return s.Tickets.PutTicket(ctx, id, sealed, lifetime)
}

func (s *ticketShelf) TakeTicket(ctx context.Context, id [32]byte) ([]byte, bool, error) {
	sealed, ok, err := s.Tickets.TakeTicket(ctx, id)
	if s.change && ok {
		sealed[len(sealed)-1]++
	}
	return sealed, ok, err
}

func shelf() *ticketShelf {
	return &ticketShelf{Tickets: memstore.New(memstore.DefaultLimits())}
}

func ticket() middleware.Ticket {
	return middleware.Ticket{Key: "the-api-key", Group: "groups/A", Path: "/v1/x:monitor", Expires: time.Now().Add(30 * time.Second)}
}

func TestSealedTicket(t *testing.T) {
	for _, test := range []struct {
		name, taken string
		after       time.Duration
		want        bool
	}{
		{"its name", "name", 0, true},
		{"another name", "eman", 0, false},
		{"no name", "", 0, false},
		{"at its end", "name", 30 * time.Second, true},
		{"after its end", "name", 30*time.Second + 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := shelf()
				want := ticket()
				if err := middleware.NewSealedTickets(store).Keep(t.Context(), "name", want); err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(store.sealed, []byte("the-api-key")) || bytes.Contains(store.sealed, []byte("monitor")) {
					t.Errorf("the store can read %q", store.sealed)
				}
				time.Sleep(test.after)
				other := middleware.NewSealedTickets(store) // of another gateway
				got, ok, err := other.Take(t.Context(), test.taken)
				if err != nil || ok != test.want || ok && (got.Key != want.Key || got.Group != want.Group || got.Path != want.Path || !got.Expires.Equal(want.Expires)) {
					t.Errorf("%+v, %t, %v", got, ok, err)
				}
				if _, again, _ := other.Take(t.Context(), test.taken); again {
					t.Error("the ticket was taken twice")
				}
			})
		})
	}
}

func TestSealedTicketsThatFail(t *testing.T) {
	store := shelf()
	tickets := middleware.NewSealedTickets(store)
	store.err = idempotency.ErrFull
	if err := tickets.Keep(t.Context(), "name", ticket()); !errors.Is(err, middleware.ErrTooManyTickets) {
		t.Errorf("full: %v", err)
	}
	store.err = idempotency.ErrUnavailable
	if err := tickets.Keep(t.Context(), "name", ticket()); !errors.Is(err, idempotency.ErrUnavailable) {
		t.Errorf("unavailable: %v", err)
	}
	store.err, store.change = nil, true
	if err := tickets.Keep(t.Context(), "name", ticket()); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := tickets.Take(t.Context(), "name"); err == nil || ok || got.Key != "" {
		t.Errorf("a ticket that was changed: %+v, %t, %v", got, ok, err)
	}
}
