package middleware

import (
	"strconv"
	"testing"
	"time"
)

func TestTicketExpires(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		want  bool
	}{{"below", ticketTime - 1, true}, {"at", ticketTime, true}, {"over", ticketTime + 1, false}} {
		t.Run(test.name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			tickets := NewMemoryTickets()
			tickets.now = func() time.Time { return now }
			keep(t, tickets, "one", now)
			now = now.Add(test.after)
			if _, ok, err := tickets.Take(t.Context(), "one"); err != nil || ok != test.want {
				t.Errorf("valid: %t, error %v", ok, err)
			}
		})
	}
}

func TestTicketsAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tickets := NewMemoryTickets()
	tickets.now = func() time.Time { return now }
	for i := range maxTickets {
		keep(t, tickets, strconv.Itoa(i), now)
	}
	if tickets.Keep(t.Context(), "more", Ticket{}) == nil {
		t.Error("the number of tickets is not bounded")
	}
	now = now.Add(ticketTime + 1)
	keep(t, tickets, "more", now) // replaces the expired tickets
}

func keep(t *testing.T, tickets *MemoryTickets, name string, now time.Time) {
	t.Helper()
	if err := tickets.Keep(t.Context(), name, Ticket{Expires: now.Add(ticketTime)}); err != nil {
		t.Fatal(err)
	}
}
