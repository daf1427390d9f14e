package sandbox

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	pricev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/market_data/price/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// prices is the PriceService.
type prices struct {
	pricev1.UnimplementedPriceServiceServer
	*mesh
}

// GetCurrentPriceByTokenPair answers with the price of a pair that trades, the
// other way around too.
func (s *prices) GetCurrentPriceByTokenPair(_ context.Context, request *pricev1.GetCurrentPriceByTokenPairRequest) (*pricev1.Price, error) {
	return store.View(s.db, func(tx *store.Tx) (*pricev1.Price, error) {
		base, quote := ledger.TokenOf(request.GetBaseToken()), ledger.TokenOf(request.GetQuoteToken())
		price, ok := s.ledger.Price(tx, base, quote)
		if !ok {
			return nil, status.Errorf(codes.NotFound, "The sandbox has no price of %s in %s.", base, quote)
		}
		return &pricev1.Price{
			BaseToken: request.GetBaseToken(), QuoteToken: request.GetQuoteToken(),
			MidPrice: &typev1.Decimal{Value: price.String()}, Time: timestamppb.New(s.now(tx)),
		}, nil
	})
}
