package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
)

// Store returns the store with its operations measured. It must be called at most once.
func (m *Metrics) Store(store idempotency.Store) idempotency.Store {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "store_operations_total",
		Help: "Operations of the store of idempotency keys and stream tickets, by their result. found is a claim of a key that was used before, and a ticket that exists.",
	}, []string{"operation", "result"})
	duration := prometheus.NewHistogramVec(histogram("store_operation_duration_seconds",
		"Time that operations of the store took."), []string{"operation"})
	m.registry.MustRegister(total, duration)
	s := &measuredStore{Store: store, total: total, operations: make(map[string]prometheus.Observer)}
	for _, operation := range []string{claimOperation, finishOperation, releaseOperation, putTicketOperation, takeTicketOperation} {
		s.operations[operation] = duration.WithLabelValues(operation)
		total.WithLabelValues(operation, "ok")
		total.WithLabelValues(operation, "unavailable")
	}
	return s
}

// The operations of a store that are measured. Purging and listing are not part of a request.
const (
	claimOperation      = "claim"
	finishOperation     = "finish"
	releaseOperation    = "release"
	putTicketOperation  = "put_ticket"
	takeTicketOperation = "take_ticket"
)

type measuredStore struct {
	idempotency.Store

	total      *prometheus.CounterVec
	operations map[string]prometheus.Observer
}

func (s *measuredStore) observe(operation string, begin time.Time, found bool, err error) {
	s.operations[operation].Observe(time.Since(begin).Seconds())
	s.total.WithLabelValues(operation, resultOf(found, err)).Inc()
}

func resultOf(found bool, err error) string {
	switch {
	case err == nil && found:
		return "found"
	case err == nil:
		return "ok"
	case errors.Is(err, idempotency.ErrCallerLimit), errors.Is(err, idempotency.ErrFull):
		return "full"
	case errors.Is(err, idempotency.ErrNotClaimed):
		return "not_claimed"
	case errors.Is(err, idempotency.ErrUnavailable):
		return "unavailable"
	default:
		return "error"
	}
}

// Claim implements [idempotency.Store].
func (s *measuredStore) Claim(ctx context.Context, record idempotency.Record, timeout time.Duration) (idempotency.Claim, error) {
	begin := time.Now()
	claim, err := s.Store.Claim(ctx, record, timeout)
	s.observe(claimOperation, begin, claim.Existing != nil, err)
	return claim, err
}

// Finish implements [idempotency.Store].
func (s *measuredStore) Finish(ctx context.Context, id idempotency.ID, token idempotency.Token, state idempotency.State, sealed []byte) error {
	begin := time.Now()
	err := s.Store.Finish(ctx, id, token, state, sealed)
	s.observe(finishOperation, begin, false, err)
	return err
}

// Release implements [idempotency.Store].
func (s *measuredStore) Release(ctx context.Context, id idempotency.ID, token idempotency.Token) error {
	begin := time.Now()
	err := s.Store.Release(ctx, id, token)
	s.observe(releaseOperation, begin, false, err)
	return err
}

// PutTicket implements [idempotency.Tickets].
func (s *measuredStore) PutTicket(ctx context.Context, id [32]byte, sealed []byte, lifetime time.Duration) error {
	begin := time.Now()
	err := s.Store.PutTicket(ctx, id, sealed, lifetime)
	s.observe(putTicketOperation, begin, false, err)
	return err
}

// TakeTicket implements [idempotency.Tickets].
func (s *measuredStore) TakeTicket(ctx context.Context, id [32]byte) (sealed []byte, ok bool, err error) {
	begin := time.Now()
	sealed, ok, err = s.Store.TakeTicket(ctx, id)
	s.observe(takeTicketOperation, begin, ok, err)
	return sealed, ok, err
}
