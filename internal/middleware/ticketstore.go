package middleware

import (
	"context"
	"errors"
	"time"
)

// ticketTime is how long a ticket is valid.
const ticketTime = 30 * time.Second

// Ticket holds the credentials of a ticket, and the path and the query that it is for.
type Ticket struct {
	Key, Group, Path, Query string
	Expires                 time.Time
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
