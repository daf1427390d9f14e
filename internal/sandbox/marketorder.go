package sandbox

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	marketorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/market_order/v1"
)

// marketOrders is the MarketOrderService. The contract has no method that makes
// a market order, so there are those of the seed.
type marketOrders struct {
	marketorderv1.UnimplementedMarketOrderServiceServer
	*mesh
}

// marketOrder is a market order by its number, which is all the contract knows
// of it.
type marketOrder struct {
	Number, Owner string
	Owners        []string
}

func (o *marketOrder) GetName() string     { return o.Number }
func (o *marketOrder) GetOwner() string    { return o.Owner }
func (o *marketOrder) GetOwners() []string { return o.Owners }

func (s *marketOrders) GetMarketOrder(ctx context.Context, request *marketorderv1.GetMarketOrderRequest) (*marketorderv1.MarketOrder, error) {
	return store.View(s.db, func(tx *store.Tx) (*marketorderv1.MarketOrder, error) {
		order, ok := s.marketOrders.Get(tx, request.GetNumber())
		if !ok || !slices.Contains(order.Owners, executingGroup(ctx)) {
			return nil, status.Errorf(codes.NotFound, "There is no market order with the number %q that is visible to %s.", request.GetNumber(), executingGroup(ctx))
		}
		return &marketorderv1.MarketOrder{Number: order.Number}, nil
	})
}
