package middleware

import (
	"testing"
	"time"
)

func TestATicketExpires(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		want  bool
	}{{"below", ticketTime - 1, true}, {"at", ticketTime, true}, {"over", ticketTime + 1, false}} {
		t.Run(test.name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			tickets := NewTickets(nil)
			tickets.now = func() time.Time { return now }
			tickets.keep("one", ticket{expires: now.Add(ticketTime)})
			now = now.Add(test.after)
			if _, ok := tickets.take("one"); ok != test.want {
				t.Errorf("it is good: %t", ok)
			}
		})
	}
}

func TestTicketsAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tickets := NewTickets(nil)
	tickets.now = func() time.Time { return now }
	for i := range maxTickets {
		if !tickets.keep(string(rune(i)), ticket{expires: now.Add(ticketTime)}) {
			t.Fatalf("%d are too many", i)
		}
	}
	if tickets.keep("more", ticket{expires: now.Add(ticketTime)}) {
		t.Error("there is no bound")
	}
	now = now.Add(ticketTime + 1)
	if !tickets.keep("more", ticket{expires: now.Add(ticketTime)}) {
		t.Error("those that have expired keep their place")
	}
}
