package sandbox

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	pricev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/market_data/price/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// prices is the PriceService.
type prices struct {
	pricev1.UnimplementedPriceServiceServer
	*mesh
}

// GetCurrentPriceByTokenPair returns the price of two tokens by their codes alone. Their issuers and
// ledgers are not looked at.
func (s *prices) GetCurrentPriceByTokenPair(_ context.Context, request *pricev1.GetCurrentPriceByTokenPairRequest) (*pricev1.Price, error) {
	return store.View(s.db, func(tx *store.Tx) (*pricev1.Price, error) {
		base, quote := request.GetBaseToken().GetCode(), request.GetQuoteToken().GetCode()
		price, ok := s.ledger.Price(tx, base, quote)
		if !ok {
			return nil, status.Errorf(codes.NotFound, "There is no price of %q in %q. Cryptocurrencies and fiat currencies are priced in each other, metals in USD and ZAR, and equities of the JSE in ZAR.", base, quote)
		}
		return &pricev1.Price{
			BaseToken: request.GetBaseToken(), QuoteToken: request.GetQuoteToken(),
			MidPrice: &typev1.Decimal{Value: price.String()}, Time: timestamppb.New(s.now(tx)),
		}, nil
	})
}
