package sandbox

import (
	"context"

	"google.golang.org/grpc"

	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
)

// transactions is the TransactionService.
type transactions struct {
	transactionv1.UnimplementedTransactionServiceServer
	store *store
}

func (s *transactions) GetTransactionState(ctx context.Context, request *transactionv1.GetTransactionStateRequest) (*transactionv1.GetTransactionStateResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	t, err := s.store.transactions.getVisible(executingGroup(ctx), request.GetName())
	if err != nil {
		return nil, err
	}
	return &transactionv1.GetTransactionStateResponse{State: t.State}, nil
}

// MonitorTransactionState sends the state and each change of it, and ends at
// SUCCESSFUL or FAILED.
func (s *transactions) MonitorTransactionState(request *transactionv1.MonitorTransactionStateRequest, stream grpc.ServerStreamingServer[transactionv1.MonitorTransactionStateResponse]) error {
	ctx := stream.Context()
	return watch(ctx, s.store,
		func() (*transaction, error) {
			return s.store.transactions.getVisible(executingGroup(ctx), request.GetName())
		},
		func(t *transaction) bool {
			_, more := nextTransactionState(t.State)
			return !more
		},
		func(t *transaction) error {
			return stream.Send(&transactionv1.MonitorTransactionStateResponse{State: t.State})
		})
}
