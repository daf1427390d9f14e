package middleware

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// ticketTime is how long a ticket is valid.
	ticketTime = 30 * time.Second
	// maxTickets is the maximum number of tickets kept at a time.
	maxTickets = 10_000
)

// Ticket holds the credentials and the path of a ticket.
type Ticket struct {
	Key, Group, Path string
	Expires          time.Time
}

// ErrTooManyTickets is returned by a [TicketStore] that is full.
var ErrTooManyTickets = errors.New("middleware: too many tickets")

// TicketStore keeps tickets until they are redeemed. It is an interface so that
// several gateways behind one address can share a store.
type TicketStore interface {
	// Keep stores a ticket until it expires. It returns ErrTooManyTickets if the store is full.
	Keep(ctx context.Context, name string, ticket Ticket) error
	// Take removes and returns a ticket. Only one caller receives it. Take returns false if the
	// ticket does not exist or has expired.
	Take(ctx context.Context, name string) (Ticket, bool, error)
}

// MemoryTickets is a TicketStore in memory. It keeps at most 10,000 tickets.
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
