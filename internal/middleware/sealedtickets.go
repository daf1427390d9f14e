package middleware

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
)

// SealedTickets is a TicketStore in a store that several gateways share. The store has neither the
// names of tickets nor what they stand for: a ticket is encrypted with a key that is derived from
// its name, and found by a hash of its name. A name has 128 bits of entropy.
type SealedTickets struct{ store idempotency.Tickets }

// NewSealedTickets returns a TicketStore in the store.
func NewSealedTickets(store idempotency.Tickets) *SealedTickets { return &SealedTickets{store} }

// Keep implements TicketStore. The lifetime of a ticket is measured by the clock of the store.
func (s *SealedTickets) Keep(ctx context.Context, name string, ticket Ticket) error {
	id, seal, err := sealOf(name)
	if err != nil {
		return err
	}
	text, err := json.Marshal(ticket)
	if err != nil {
		return err
	}
	sealed := seal.Seal(nil, nil, text, id[:]) //nolint:gosec // the nonce is random
	err = s.store.PutTicket(ctx, id, sealed, time.Until(ticket.Expires))
	if errors.Is(err, idempotency.ErrFull) {
		return ErrTooManyTickets
	}
	return err
}

// Take implements TicketStore.
func (s *SealedTickets) Take(ctx context.Context, name string) (ticket Ticket, ok bool, err error) {
	id, seal, err := sealOf(name)
	if err != nil {
		return Ticket{}, false, err
	}
	sealed, ok, err := s.store.TakeTicket(ctx, id)
	if !ok || err != nil {
		return Ticket{}, false, err
	}
	text, err := seal.Open(nil, nil, sealed, id[:])
	if err == nil {
		err = json.Unmarshal(text, &ticket)
	}
	if err != nil {
		return Ticket{}, false, fmt.Errorf("middleware: a ticket was changed in the store: %w", err)
	}
	return ticket, true, nil
}

// sealOf returns the ID of a ticket and its cipher. The name is what the client sent, so it may be
// empty or of any length. Such a ticket is never found.
func sealOf(name string) (id [sha256.Size]byte, seal cipher.AEAD, err error) {
	id = sha256.Sum256([]byte("mesh-gateway ticket id 1\x00" + name))
	key, err := hkdf.Key(sha256.New, []byte(name), nil, "mesh-gateway ticket 1", sha256.Size)
	if err != nil {
		return id, nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return id, nil, err
	}
	seal, err = cipher.NewGCMWithRandomNonce(block)
	return id, seal, err
}
