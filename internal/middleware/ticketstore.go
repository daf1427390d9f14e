package middleware

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// ticketTime is how long a ticket can be redeemed.
	ticketTime = 30 * time.Second
	// maxTickets bounds the tickets that are kept at a time.
	maxTickets = 10_000
)

// Ticket is what a ticket stands for.
type Ticket struct {
	Key, Group, Path string
	Expires          time.Time
}

// ErrTooManyTickets is the error of a [TicketStore] that has no room.
var ErrTooManyTickets = errors.New("middleware: too many tickets are kept")

// TicketStore keeps tickets until they are redeemed. It is an interface so that
// several gateways behind one address can share a store.
type TicketStore interface {
	// Keep stores a ticket until it expires. The error is ErrTooManyTickets where
	// there is no room.
	Keep(ctx context.Context, name string, ticket Ticket) error
	// Take removes a ticket and returns it, to one caller only. It reports false
	// for a ticket that is not there or has expired.
	Take(ctx context.Context, name string) (Ticket, bool, error)
}

// MemoryTickets is a TicketStore of one process. It keeps at most 10,000 tickets.
type MemoryTickets struct {
	now func() time.Time

	mu   sync.Mutex
	kept map[string]Ticket
}

// NewMemoryTickets returns an empty store.
func NewMemoryTickets() *MemoryTickets {
	return &MemoryTickets{now: time.Now, kept: make(map[string]Ticket)}
}

// Keep implements TicketStore.
func (m *MemoryTickets) Keep(_ context.Context, name string, ticket Ticket) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.kept) >= maxTickets {
		for other, kept := range m.kept {
			if m.now().After(kept.Expires) {
				delete(m.kept, other)
			}
		}
	}
	if len(m.kept) >= maxTickets {
		return ErrTooManyTickets
	}
	m.kept[name] = ticket
	return nil
}

// Take implements TicketStore.
func (m *MemoryTickets) Take(_ context.Context, name string) (Ticket, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ticket, ok := m.kept[name]
	delete(m.kept, name)
	return ticket, ok && !m.now().After(ticket.Expires), nil
}
